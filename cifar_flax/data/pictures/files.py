"""Files of pictures: their suffixes, and the reading of their bytes."""

import os
from pathlib import Path

from cifar_flax.data.pictures.errors import UnreadableImage
from cifar_flax.files.folder import open_regular_bytes
from cifar_flax.files.walk import files_below

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")  # of Pillow, which runs programs for some others
NAMES = "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF and PPM"  # of the same, for people
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)  # of files in those formats
MAX_BYTES = 200 * 2**20  # of a file: 25 million pixels of 8 bytes


def is_picture(name: str) -> bool:
    """Whether a file is taken for a picture, by its name: it has a suffix in SUFFIXES and is not hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def pictures_in(folder: Path, unlisted: dict[Path, str] | None = None) -> list[Path]:
    """The picture files in a folder and below, as `files_below` lists them; a file is a picture by its suffix."""
    return [path for path in files_below(folder, unlisted) if is_picture(path.name)]


def hint_of_heic(folder: Path) -> str:
    """A hint to follow "no pictures in this folder" where there are photographs of Apple's telephones; empty elsewhere."""
    there = any(path.name.lower().endswith((".heic", ".heif")) for path in files_below(folder, {}))
    return ", but HEIC photographs, which are not read: save them as JPEG" if there else ""


def read_bytes(path: Path | str, part: tuple[int, int] | None = None) -> bytes:
    """The content of a regular file, or a part of it, of at most `MAX_BYTES`.

    Args:
      path: of the file.
      part: where the part begins, and how many bytes it has; None for all.

    Raises:
      UnreadableImage: there is no such file, it cannot be opened, it is a folder, a pipe or a device, or it is larger.
    """
    try:
        with open_regular_bytes(Path(path)) as file:
            start, size = part or (0, os.fstat(file.fileno()).st_size)
            if size > MAX_BYTES:
                raise UnreadableImage(f"The file is larger than {MAX_BYTES >> 20} MB.", "too_large")
            file.seek(start)
            return file.read(size)
    except OSError as e:
        raise UnreadableImage(e.strerror or str(e), "no_such_file") from None
    except ValueError as e:  # no regular file, or a null byte in the name
        raise UnreadableImage(f"{str(e).capitalize()}.", "not_a_file") from None
