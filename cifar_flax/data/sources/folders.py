"""Folders of pictures, PATH/train/CLASS/*.png and PATH/test/CLASS/*.png, as data sets."""

import hashlib
import os
from functools import cache as once
from pathlib import Path

import numpy as np
from absl import logging

from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset, check_memory
from cifar_flax.data.pictures.files import SUFFIXES
from cifar_flax.data.pictures.isolated import shared_decoder
from cifar_flax.data.sources.listing import Listing, list_pictures
from cifar_flax.errors import ConfigError, UserError

PREFIX = "folder:"  # of config.data.name
DEFAULT_SIZE = 32  # pixels a side, CIFAR's
_warn_once = once(logging.warning)  # a listing is made for the fingerprint and for reading
DECODER = 2  # to be counted up where the same files give other pixels, so that they are read again


class FolderSource:
    """`folder:PATH` as a source of the data registry: read once, and again when a picture changes."""

    def __init__(self, name: str, image_size: int | None = None) -> None:
        try:
            path = Path(name.removeprefix(PREFIX)).expanduser()
        except RuntimeError as e:  # there is no such user
            raise ConfigError(f"config.data.name: {name}: {e}") from None
        self.path, self.image_size = Path(os.path.abspath(path)), image_size
        self.identity = f"{PREFIX}{self.path}"

    def key(self) -> str:
        """The entry's name, with a hash of the path."""
        return cache.key_of(self.identity, self.image_size or DEFAULT_SIZE)

    def version(self) -> str:
        """Names the pictures by their fingerprint."""
        return f"folder {self.path}, decoder {DECODER}, fingerprint {fingerprint(self.path)}"

    def build(self) -> None:
        """Reads the pictures into the cache."""
        cache.write(self.key(), read(self.path, self.image_size), self.version(), self.identity)


def read(path: Path, image_size: int | None = None) -> dict[str, Dataset]:
    """Reads the splits of a folder: `train`, and `test` where there is one.

    Classes are the subfolders of `train` in alphabetical order; `test` can have no others. Rows are ordered by class, then file
    name. Pictures are decoded as for predictions, cropped to a square and resized. What is not read although it may have been
    meant to be is named in a line; an unreadable picture is an error, since skipping it would change the data set.

    Args:
      path: the folder.
      image_size: pixels a side; 32 when None.

    Returns:
      Splits with images uint8 [N, image_size, image_size, 3].

    Raises:
      UserError: the folder is not laid out like that, or pictures cannot be read; the message names all of them.
    """
    listing = _listed(path)
    if not listing.splits.get("train"):
        raise UserError(f"{path}: expected pictures in {path}/train/CLASS/ and {path}/test/CLASS/")
    classes = list(listing.splits["train"])
    for split, by_class in listing.splits.items():
        for name, pictures in by_class.items():
            if name not in classes:
                raise UserError(f"{path}/{split}/{name}: there is no such class in {path}/train")
            if not pictures and split == "train":
                looked = f" (looked for *{', *'.join(SUFFIXES)})"
                where = ", but in folders below it; move them up" if listing.has_nested(split, name) else looked
                raise UserError(f"{path}/{split}/{name}: no pictures there{where}")
    return {
        split: _read_split(path, by_class, classes, image_size or DEFAULT_SIZE) for split, by_class in listing.splits.items()
    }


def fingerprint(path: Path) -> str:
    """Hashes the relative names, sizes and modification times of all pictures, 16 hex digits.

    Raises:
      UserError: there is no such folder.
    """
    digest = hashlib.sha256()
    for split, by_class in _listed(path).splits.items():
        for name, pictures in by_class.items():
            digest.update(f"{split}/{name}\n".encode())
            for picture in pictures:
                status = picture.stat()
                digest.update(f"{picture.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _listed(path: Path) -> Listing:
    """Lists the pictures, and says what is left out."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; expected {path}/train/CLASS/*.png and {path}/test/CLASS/*.png")
    try:
        listing = list_pictures(path)
    except OSError as e:
        raise UserError(f"{e.filename or path}: cannot be read ({e.strerror})") from None
    if listing.left_out:
        _warn_once("%s: left out: %s", path, ", ".join(listing.left_out))
    return listing


def _read_split(root: Path, by_class: dict[str, list[Path]], classes: list[str], size: int) -> Dataset:
    paths = [path for pictures in by_class.values() for path in pictures]
    labels = [classes.index(name) for name, pictures in by_class.items() for _ in pictures]
    check_memory(str(root), len(paths) * size * size * 3)
    images = np.empty((len(paths), size, size, 3), np.uint8)
    refused = shared_decoder().fit_files(paths, images)
    lines = [f"{paths[i]}: cannot be read: {str(error).rstrip('.')}" for i, error in refused.items()]
    if len(lines) == 1:
        raise UserError(f"{lines[0]}; replace or remove it")
    if lines:
        raise UserError("\n  ".join([f"{root}: {len(lines)} pictures cannot be read; replace or remove them:", *lines]))
    return Dataset(images, np.array(labels, np.int32), tuple(classes))
