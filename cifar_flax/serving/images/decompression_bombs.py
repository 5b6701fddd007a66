"""Small files that would keep a decoder busy for minutes or fill the memory, by ways that Pillow's own limits leave open.

Those cover the number of pixels, compressed text and colour profiles in PNG, and (since Pillow 13) overlapping tags in TIFF and
EXIF. The times are for files of 20 MB, on a core of 2026.
"""

import re
import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image

MOST_EXIF_PARTS = 500  # of 64 kB each at most
MOST_MARKERS = 50_000  # of which 20 MB of anything else that follows a JPEG, such as a video, have 17,000 by chance
MOST_SCANS = 100  # in a JPEG with as many pixels as are allowed; cameras and converters write 1 to 12
MOST_TAGS = 2**16  # of a TIFF directory, and values of one tag: strips of one row each, for the highest pictures there are
STRIPS = (273, 279, 324, 325)  # where strips and tiles are, and how long
TEXT = (1, 2, 6, 7)  # types of tags that are kept as bytes, such as colour profiles
SMALL = 2**20  # pixels, and bytes, that are always all right


class Bomb(Exception):
    """A file that is not worth what reading it would cost."""


def check_file(data: bytes) -> None:
    """Looks at what opening a file would cost.

    Raises:
      Bomb: it is one.
    """
    if data.startswith((b"II", b"MM")) and any(count > MOST_TAGS for count in _counts(data)):
        raise Bomb(
            "a TIFF of millions of strips, for each of which Pillow makes an object when it opens the file: 1.3 GB, 20 s"
        )
    if not data.startswith(b"\xff\xd8"):
        return
    if data.count(b"Exif\0\0") > MOST_EXIF_PARTS:
        raise Bomb("EXIF data in tiny parts, which Pillow strings together one by one: minutes")
    if sum(1 for _ in re.finditer(rb"\xff[\xc0-\xcf\xd8-\xfe]", data)) > MOST_MARKERS:
        raise Bomb("millions of segments, which Pillow keeps in a list: 700 MB")


def check_picture(image: Image.Image, data: bytes, most_pixels: int) -> None:
    """Looks at what decoding the pixels would cost.

    Args:
      image: opened, not loaded.
      data: its file.
      most_pixels: that a picture may have.

    Raises:
      Bomb: it costs more than its pixels and bytes suggest.
    """
    pixels = max(SMALL, image.width * image.height)
    if image.format in ("JPEG", "MPO") and _scans(data) * pixels > MOST_SCANS * most_pixels:
        raise Bomb("a progressive JPEG, where a scan takes 60 bytes and makes libjpeg go over all pixels: half an hour")
    if image.format == "TIFF" and _tile(image) > pixels:
        raise Bomb("tiles larger than the picture, which libtiff makes room for: 1 GB, from 151 bytes")
    if max(pixels, len(data)) > SMALL and any(tile[0] == "bmp_rle" for tile in getattr(image, "tile", ())):
        raise Bomb("run-length encoded BMP, which Pillow decodes in Python, and whose skips it fills in: 10 s, from 1 kB")


def _scans(data: bytes) -> int:
    """Start-of-scan markers, with lengths that libjpeg accepts; compressed data cannot contain them."""
    return sum(1 for _ in re.finditer(rb"\xff\xda\x00[\x08\x0a\x0c\x0e]", data))


def _tile(image: Any) -> int:
    """Pixels of a tile, 0 where there are none: TIFF tags 322 and 323."""
    tags = image.tag_v2
    return int(tags.get(322, 0)) * int(tags.get(323, 0))


def _counts(data: bytes) -> Iterator[int]:
    """How many tags the first directory of a TIFF has, and how many numbers each of them; as far as there is data.

    It is read as Pillow does: BigTIFF only where the third byte says so, which in big-endian files it does not.
    """
    order = "<" if data.startswith(b"II") else ">"
    formats = ("8xQ", "Q", "HHQ8x") if data[2:3] == b"\x2b" else ("4xL", "H", "HHL4x")
    header, number, tag = (struct.Struct(order + each) for each in formats)
    try:
        (at,) = header.unpack_from(data)
        (tags,) = number.unpack_from(data, at)
        yield tags
        for k in range(tags):
            name, kind, count = tag.unpack_from(data, at + number.size + k * tag.size)
            if kind not in TEXT or name in STRIPS:
                yield count
    except (struct.error, OverflowError):
        return
