"""Folders of pictures, PATH/train/CLASS/*.png and PATH/test/CLASS/*.png, as data sets."""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.resize import fit
from cifar_flax.errors import UserError

PREFIX = "folder:"  # of config.data.name
SPLITS = ("train", "test")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # whatever the suffix; Pillow runs programs for some others
DEFAULT_SIZE = 32  # pixels a side, CIFAR's


class FolderSource:
    """`folder:PATH` as a source of the data registry: read once, and again when a picture changes."""

    def __init__(self, name: str, image_size: int | None = None) -> None:
        self.path, self.image_size = Path(name.removeprefix(PREFIX)).expanduser().absolute(), image_size

    def key(self) -> str:
        """The entry's name, with a hash of the path."""
        return cache.key_of(f"{PREFIX}{self.path}", self.image_size or DEFAULT_SIZE)

    def version(self) -> str:
        """Names the pictures by their fingerprint."""
        return f"folder {self.path}, fingerprint {fingerprint(self.path)}"

    def build(self) -> None:
        """Reads the pictures into the cache."""
        cache.write(self.key(), read(self.path, self.image_size), self.version(), f"{PREFIX}{self.path}")


def read(path: Path, image_size: int | None = None) -> dict[str, Dataset]:
    """Reads the splits of a folder: `train`, and `test` where there is one.

    Classes are the subfolders of `train` in alphabetical order; `test` can have no others. Rows are ordered by class, then file
    name. Pictures are turned upright by their EXIF data, converted to RGB, cropped to a square and resized. Hidden files and
    files with other suffixes are ignored; an unreadable picture is an error, since skipping it would change the data set.

    Args:
      path: the folder.
      image_size: pixels a side; 32 when None.

    Returns:
      Splits with images uint8 [N, image_size, image_size, 3].

    Raises:
      UserError: the folder is not laid out like that, or a picture cannot be read.
    """
    files = {split: _list(path / split) for split in SPLITS if (path / split).is_dir()}
    if not files.get("train"):
        raise UserError(f"{path}: expected pictures in {path}/train/CLASS/ and {path}/test/CLASS/")
    classes = list(files["train"])
    for split, by_class in files.items():
        for name, pictures in by_class.items():
            if name not in classes:
                raise UserError(f"{path}/{split}/{name}: there is no such class in {path}/train")
            if not pictures and split == "train":
                raise UserError(f"{path}/{split}/{name}: no pictures there (looked for *{', *'.join(SUFFIXES)})")
    return {split: _read_split(by_class, classes, image_size or DEFAULT_SIZE) for split, by_class in files.items()}


def fingerprint(path: Path) -> str:
    """Hashes the relative names, sizes and modification times of all pictures, 16 hex digits.

    Raises:
      UserError: there is no such folder.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; expected {path}/train/CLASS/*.png and {path}/test/CLASS/*.png")
    digest = hashlib.sha256()
    for split in SPLITS:
        for name, pictures in _list(path / split).items():
            digest.update(f"{split}/{name}\n".encode())
            for picture in pictures:
                status = picture.stat()
                digest.update(f"{picture.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _list(split: Path) -> dict[str, list[Path]]:
    """Picture files by class, both sorted by name."""
    if not split.is_dir():
        return {}
    classes = sorted((entry for entry in os.scandir(split) if entry.is_dir() and entry.name[0] != "."), key=lambda e: e.name)
    return {entry.name: _pictures(Path(entry.path)) for entry in classes}


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()
    )


def _read_split(by_class: dict[str, list[Path]], classes: list[str], size: int) -> Dataset:
    pictures = [(path, classes.index(name)) for name, paths in by_class.items() for path in paths]
    images = np.empty((len(pictures), size, size, 3), np.uint8)
    unreadable: list[str] = []
    for i, (path, _) in enumerate(pictures):
        try:
            images[i] = _read_picture(path, size)
        except Exception as e:  # Pillow's decoders raise whatever they stumble over
            unreadable.append(f"{path}: cannot be read as a picture ({_reason(e)})")
    if unreadable:
        others = f", and {len(unreadable) - 1} more like it" if len(unreadable) > 1 else ""
        raise UserError(f"{unreadable[0]}{others}; replace or remove what is damaged")
    return Dataset(images, np.array([label for _, label in pictures], np.int32), tuple(classes))


def _read_picture(path: Path, size: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd palettes and metadata
        with Image.open(path, formats=FORMATS) as picture:
            upright = ImageOps.exif_transpose(picture)
            return fit(upright.convert("RGB"), size)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    return str(error).partition("\n")[0] or type(error).__name__
