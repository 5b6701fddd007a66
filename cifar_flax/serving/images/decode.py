"""Bytes from strangers to RGB pictures; what is no picture, or would take too much memory or time to read, is refused."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from cifar_flax.serving.errors import UnreadableImage
from cifar_flax.serving.images import decompression_bombs

__all__ = ["Limits", "Opened", "UnreadableImage", "decode", "inspect", "upright_rgb"]

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
DRAFT_SIDE = 1024  # pixels; libjpeg reads a JPEG of twice that or more at 1/2, 1/4 or 1/8, in a fraction of time and memory
LARGE = 4_000_000  # pixels; of pictures with more, one is read at a time

# For all of the process: warnings.catch_warnings() would swap the filters under other threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

_large = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """What a picture may measure.

    Attributes:
      pixels: in all, at most: 50 million, the most that telephones take.
      decoded: of those that are decoded, at most; of a JPEG, which libjpeg reads smaller, these are fewer. 25 million take
        480 MB meanwhile as WebP with alpha that EXIF turns, less in all other forms; a JPEG of 50 million takes 390 MB at most.
      side: pixels in each direction, at least.
    """

    pixels: int = 50_000_000
    decoded: int = 25_000_000
    side: int = 8


@dataclass(frozen=True)
class Opened:
    """A picture within the limits, not decoded yet.

    Attributes:
      large: whether decoding it may take so much memory that only one such should be at a time.
    """

    large: bool
    _image: Image.Image
    _data: bytes
    _limits: Limits

    def rgb(self) -> Image.Image:
        """Decodes it, once; see `decode`."""
        with _refusing(self._data, self._limits):
            self._image.load()
            picture = upright_rgb(self._image)
            factor = min(picture.size) // DRAFT_SIDE
            return picture.reduce(factor) if factor > 1 else picture


def decode(data: bytes, limits: Limits = Limits()) -> Image.Image:
    """Decodes a file, whatever its name or Content-Type say it is.

    Args:
      data: a whole file: JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF; of an animation or several pages the first is read.
      limits: checked before any pixel is decoded.

    Returns:
      The picture: RGB, uint8, turned upright, over white where it is transparent. A large one comes smaller, by a whole factor,
      but with no fewer than `DRAFT_SIDE` pixels a side.

    Raises:
      UnreadableImage: it is none of those formats, damaged, cut short, or outside the limits.
    """
    opened = inspect(data, limits)
    with _large if opened.large else contextlib.nullcontext():
        return opened.rgb()


def inspect(data: bytes, limits: Limits = Limits()) -> Opened:
    """Opens a file and checks all that can be without decoding it: for who has other means than `decode` to wait for a turn.

    Raises:
      UnreadableImage: it is not one to decode.
    """
    with _refusing(data, limits):
        decompression_bombs.check_file(data)
        image = Image.open(BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > limits.pixels:
        raise _too_many(limits.pixels)
    if min(width, height) < limits.side:
        sentence = f"The picture is {width} x {height} pixels; it needs at least {limits.side} in each direction."
        raise UnreadableImage(sentence, "too_small", 422)
    with _refusing(data, limits):
        decompression_bombs.check_picture(image, data, limits.pixels)
        image.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
    if image.width * image.height > limits.decoded:
        raise _too_many(limits.decoded)
    return Opened(width * height > LARGE, image, data, limits)


@contextlib.contextmanager
def _refusing(data: bytes, limits: Limits) -> Iterator[None]:
    """Turns what Pillow raises, which may be anything that its decoders stumble over, into sentences."""
    try:
        yield
    except UnidentifiedImageError:
        raise UnreadableImage(_what_it_is(data), "not_an_image", 415) from None
    except Image.DecompressionBombError:
        raise _too_many(limits.pixels) from None
    except decompression_bombs.Bomb:
        raise UnreadableImage("The picture is written in a way that takes too long to read.", "too_costly", 422) from None
    except Exception:
        raise UnreadableImage("The picture is damaged or cut short.", "damaged", 422) from None


def upright_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB, uint8, turned as its EXIF data says, over white where it is transparent.

    16 bits become 8 by division by 257. Modes I and F, 32 bits, do not say what white is. It is taken to be the smallest of 255
    and 65535 (F: of 1, 255 and 65535) that no value exceeds; where one does, or is negative, least is black and largest white.

    Raises:
      ValueError: Pillow knows no way from its mode to RGB.
    """
    upright = image
    with contextlib.suppress(Exception):  # EXIF data may make no sense where the picture does
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        upright = _eight_bits(upright)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    rgba = upright if upright.mode == "RGBA" else upright.convert("RGBA")  # which would copy it
    over_white = Image.new("RGB", rgba.size, "white")
    over_white.paste(rgba, mask=rgba)
    return over_white


def _eight_bits(image: Image.Image) -> Image.Image:
    """Modes I;16, I and F as L, or as LA where one value is marked as transparent."""
    values = np.array(image, np.float32)
    np.nan_to_num(values, copy=False, posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    whites = (65535.0,) if "16" in image.mode else (255.0, 65535.0) if image.mode == "I" else (1.0, 255.0, 65535.0)
    if low >= 0 and high <= whites[-1]:
        low, high = 0.0, next(white for white in whites if high <= white)
    values -= low
    values *= 255 / max(high - low, 1e-30)
    grey = Image.fromarray(np.rint(values, out=values).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(np.asarray(image) == clear, 0, 255).astype(np.uint8)))
    return grey


def _too_many(pixels: int) -> UnreadableImage:
    return UnreadableImage(f"The picture has more than {pixels / 1e6:g} megapixels.", "too_many_pixels", 413)


def _what_it_is(data: bytes) -> str:
    """A sentence on a file that is no picture; the guess only chooses the sentence."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    formats = "JPEG, PNG, WebP, AVIF, GIF, BMP and TIFF are read"
    if not data:
        return "The file is empty."
    if b"<html" in head or head.startswith((b"<!doctype html", b"<head", b"<body", b"<script")):
        return "That is a web page, not a picture: open the picture itself and copy its own address."
    if b"<svg" in head:
        return f"SVG drawings are not read; {formats}."
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
        return f"HEIC photographs are not read: save yours as JPEG; {formats}."
    return f"That is not a picture, or of a kind that is not read; {formats}."
