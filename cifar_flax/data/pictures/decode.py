"""Decodes picture files into RGB.

Limits on pixels are checked here. Limits on memory and time are the operating system's: files are decoded through
`cifar_flax.data.pictures.isolated`, in another process.
"""

import math
import warnings
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from cifar_flax.data.pictures.errors import UnreadableImage
from cifar_flax.data.pictures.files import FORMATS, NAMES
from cifar_flax.data.pictures.rgb import scale_transparency, upright_rgb

DRAFT_SIDE = 1024  # pixels; libjpeg reads a JPEG of twice that or more at 1/2, 1/4 or 1/8, in a fraction of time and memory
OUT_OF_MEMORY = ("out of memory", "decoder error -9")  # how Pillow's messages of an OSError begin

# For all of the process: warnings.catch_warnings() would swap the filters under other threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Limits:
    """The size of a picture, and the resources that a process may use to decode it.

    Attributes:
      pixels: most pixels of the picture; telephones take up to 50 million.
      decoded_pixels: most pixels that are decoded. They are fewer for a JPEG, which libjpeg reads at a smaller scale.
      memory: bytes of address space beyond those of the idle process and of the file.
      cpu_seconds: CPU time of all threads.
      seconds: wall-clock time.
    """

    pixels: int = 50_000_000
    decoded_pixels: int = 25_000_000
    memory: int = 640 * 2**20
    cpu_seconds: float = 6.0
    seconds: float = 30.0


# Most pictures, telephones' JPEGs among them, are decoded several at a time within SMALL. Those that exceed it are decoded one
# by one within LARGE.
SMALL = Limits(pixels=16_000_000, decoded_pixels=4_000_000, memory=448 * 2**20, cpu_seconds=0.5)
LARGE = Limits()
TOO_COSTLY = "too_costly"
# Brands of ISO/IEC 23008-12, annex B: of single pictures, sequences, layers of them, and of any coding.
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1")
LIMIT_CODES = ("too_many_pixels", TOO_COSTLY)  # of an UnreadableImage that would be read with higher limits


def decode(data: bytes, limits: Limits = LARGE) -> Image.Image:
    """Decodes a file in this process, whatever its name or Content-Type says.

    Args:
      data: a whole file in one of `FORMATS`; of an animation or several pages the first is read.
      limits: those on pixels are checked before any pixel is decoded.

    Returns:
      The picture: RGB, uint8, turned upright, over white where it is transparent. A large one comes smaller, by a whole factor,
      but with no fewer than `DRAFT_SIDE` pixels a side, or, of a JPEG, `LARGE.decoded_pixels` in all.

    Raises:
      UnreadableImage: it is none of those formats, damaged, cut short, or outside the limits.
    """
    try:
        if (size := webp_size(data)) and math.prod(size) > limits.decoded_pixels:  # before libwebp has memory for it
            raise _too_many_pixels(limits.decoded_pixels)
        image = Image.open(BytesIO(data), formats=FORMATS)
        _check_size(image, limits)
        scale_transparency(image)
        image.load()
        return as_rgb(image)
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(_describe(data), "not_an_image") from None
    except Image.DecompressionBombError:
        raise _too_many_pixels(limits.pixels) from None
    except Exception as e:  # the decoders raise anything
        out_of_memory = isinstance(e, MemoryError) or str(e).startswith(OUT_OF_MEMORY)
        raise (too_costly() if out_of_memory else _damaged()) from None


def as_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture as `decode` returns it: RGB, upright, shrunk by a whole factor to no fewer than `DRAFT_SIDE` a side."""
    picture = upright_rgb(image)
    factor = min(picture.size) // DRAFT_SIDE
    return picture.reduce(factor) if factor > 1 else picture


def _check_size(image: Image.Image, limits: Limits) -> None:
    """Checks the size of a picture that is opened and not yet decoded, and has a large JPEG decoded at a smaller scale."""
    width, height = image.size
    if width * height > limits.pixels:
        raise _too_many_pixels(limits.pixels)
    needed = next((scale for scale in (1, 2, 4) if width * height <= scale**2 * LARGE.decoded_pixels), 8)  # a panorama's
    image.draft(None, (min(DRAFT_SIDE, width // needed), min(DRAFT_SIDE, height // needed)))
    if image.width * image.height > limits.decoded_pixels:
        raise _too_many_pixels(limits.decoded_pixels)


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP file begins with; None of any other. RFC 9649, sections 2.5 to 2.7 and 3.4."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def too_costly() -> UnreadableImage:
    """The file takes more memory or time than the limits allow."""
    return UnreadableImage("The picture is written in a way that takes too long to read.", TOO_COSTLY)


def _damaged() -> UnreadableImage:
    return UnreadableImage("The picture is damaged or cut short.", "damaged")


def _too_many_pixels(pixels: int) -> UnreadableImage:
    return UnreadableImage(f"The picture has more than {pixels / 1e6:g} megapixels.", "too_many_pixels")


def _describe(data: bytes) -> str:
    """A sentence on a file that is no picture; the guess only chooses the sentence."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    formats = f"{NAMES} are read"
    if not data:
        return "The file is empty."
    if b"<html" in head or head.startswith((b"<!doctype html", b"<head", b"<body", b"<script")):
        return "That is a web page, not a picture: open the picture itself and copy its own address."
    if b"<svg" in head:
        return f"SVG drawings are not read; {formats}."
    if data[4:8] == b"ftyp" and data[8:12] in HEIC:
        return f"HEIC photographs are not read: save yours as JPEG; {formats}."
    return f"That is not a picture, or of a kind that is not read; {formats}."
