"""Folders of pictures as data sets: PATH/train/CLASS/*.png, PATH/CLASS/*.png, or pictures and a CSV file; zip files of them."""

import hashlib
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset, warn_once
from cifar_flax.data.pictures.files import SUFFIXES, hint_of_heic
from cifar_flax.data.pictures.isolated import shared_decoder
from cifar_flax.data.sources.held_out import TEST_FRACTION, TEST_SEED, as_test_split, warn_of_no_test_split, with_test_split
from cifar_flax.data.sources.listing import Listing, list_pictures
from cifar_flax.data.sources.source import Source
from cifar_flax.data.sources.unpacked import is_zip, unpacked
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.runtime.memory import check_allocation

PREFIX = "folder:"  # of config.data.name
DEFAULT_SIZE = 32  # pixels a side, CIFAR's
OR_TABLE = "or a table such as labels.csv with the columns file and label"
DECODER = 3  # to be counted up where the same files give other pixels, so that they are read again


def public_name(name: str) -> str:
    """The name of a data set for strangers: of a folder of pictures without its path, which is nobody else's business."""
    return Path(name.removeprefix(PREFIX)).name if name.startswith(PREFIX) else name


class FolderSource(Source):
    """`folder:PATH` as a source: read once, and again when a picture changes."""

    def __init__(self, name: str, image_size: int | None = None, test_fraction: float = TEST_FRACTION) -> None:
        if name == PREFIX:
            raise ConfigError(f"config.data.name: {name} names no folder; expected {PREFIX}PATH")
        try:
            path = Path(name.removeprefix(PREFIX)).expanduser()
        except RuntimeError as e:  # there is no such user
            raise ConfigError(f"config.data.name: {name}: {e}") from None
        self.path, self.test_fraction = Path(os.path.abspath(path)), test_fraction
        super().__init__(f"{PREFIX}{self.path}", image_size or DEFAULT_SIZE)

    def key(self) -> str:
        """The entry's name, with a hash of the path, and of `test_fraction` where that is not the default."""
        fraction = "" if self.test_fraction == TEST_FRACTION else f", test {self.test_fraction}"
        return cache.key_of(self.identity + fraction, self.image_size)

    def version(self) -> str:
        """Names the pictures by their fingerprint."""
        test = f"test {self.test_fraction:g} by seed {TEST_SEED} where undivided"
        return f"folder {self.path}, decoder {DECODER}, {test}, fingerprint {fingerprint(self.path)}"

    def build(self) -> None:
        """Reads the pictures into the cache, under the fingerprint that they had before: what is added meanwhile is new."""
        version = self.version()
        with unpacked(self.path) if is_zip(self.path) else nullcontext(self.path) as folder:
            splits = read(folder, self.image_size, self.test_fraction, self.path)
        warn_of_no_test_split(self.path, splits)
        cache.write(self.key(), splits, version, self.identity)


def read(
    path: Path, image_size: int | None = None, test_fraction: float = TEST_FRACTION, origin: Path | None = None
) -> dict[str, Dataset]:
    """Reads the splits of a folder.

    Pictures lie in SPLIT/CLASS/, where splits are called train or training, val, valid, validation or dev, and test or testing,
    in any case; or in CLASS/, without splits; or anywhere, with their classes in CSV files (`label_tables`). Where no layout
    names splits, `test_fraction` of each class becomes the test split, always the same pictures. Validation pictures without
    test pictures are the test split.

    Classes are those of `train`, in alphabetical order; other splits can have no others. Rows are ordered by class, then file
    name. Pictures are decoded as for predictions, cropped to a square and resized. What is not read although it may have been
    meant to be is named in a line; an unreadable picture is an error, since skipping it would change the data set.

    Args:
      path: the folder.
      image_size: pixels a side; 32 when None.
      test_fraction: in [0, 1), of each class, rounded to whole pictures; 0 leaves all to train.
      origin: what the user named, for warnings: the zip file that the folder is unpacked from, or None for the folder.

    Returns:
      The splits "train", and "validation" and "test" where there are any: images uint8 [N, image_size, image_size, 3].

    Raises:
      UserError: the folder is not laid out like that, or pictures cannot be read; the message names all of them.
    """
    origin = origin or path
    listing = _listed(path, origin)
    if not listing.splits.get("train"):
        if deep := sum(listing.outside.values()):
            raise UserError(
                f"{path}: {deep:,} pictures lie further down than {path}/CLASS/; move them up into one folder for each class, "
                "or name the folder that the classes lie in"
            )
        if hint := hint_of_heic(path):
            raise UserError(f"{path}: has no pictures{hint}")
        raise UserError(
            f"{path}: expected pictures in {path}/train/CLASS/ and {path}/test/CLASS/, or in {path}/CLASS/, {OR_TABLE}"
        )
    classes = list(listing.splits["train"])
    for split, by_class in listing.splits.items():
        for name, pictures in by_class.items():
            place = listing.folders.get(split, path) / name
            if name not in listing.splits["train"]:
                raise UserError(
                    f"{place}: there is no such class in {listing.folders.get('train', f'the train split of {path}')}"
                )
            if not pictures and split == "train":
                looked = f" (looked for *{', *'.join(SUFFIXES)})"
                where = ", but in folders below it; move them up" if listing.has_nested(split, name) else looked
                raise UserError(f"{place}: no pictures there{where}")
    size = image_size or DEFAULT_SIZE
    count = sum(len(pictures) for by_class in listing.splits.values() for pictures in by_class.values())
    check_allocation(str(path), count * size * size * 3)
    splits = {
        split: _read_split(path, by_class, classes, size)
        for split, by_class in listing.splits.items()
        if any(by_class.values())  # pictures in no class are no split; that they are left out has been said
    }
    if listing.undivided:
        return with_test_split(origin, splits["train"], test_fraction)
    return as_test_split(origin, splits)


def fingerprint(path: Path) -> str:
    """Hashes the relative names, sizes and modification times of all pictures, or those of a zip file, 16 hex digits.

    Raises:
      UserError: there is no such folder.
    """
    if is_zip(path):
        status = path.stat()
        return hashlib.sha256(f"{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    for split, by_class in _listed(path, path).splits.items():
        for name, pictures in by_class.items():
            digest.update(f"{split}/{name}\n".encode())
            for picture in pictures:
                status = picture.stat()
                name_here = picture.relative_to(path)  # files of two folders may have the same names, sizes and times
                digest.update(f"{name_here}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _listed(path: Path, origin: Path) -> Listing:
    """Lists the pictures, and says what is left out of what the user named."""
    if not path.is_dir():
        if path.exists():
            raise UserError(f"{path}: is no folder and no .zip file; unpack it if it is an archive, and name the folder")
        if path.suffix:
            raise UserError(f"{path}: no such folder or zip file")
        raise UserError(
            f"{path}: no such folder; expected {path}/train/CLASS/*.png and {path}/test/CLASS/*.png, or {path}/CLASS/*.png"
        )
    try:
        listing = list_pictures(path)
    except OSError as e:
        raise UserError(f"{e.filename or path}: cannot be read ({e.strerror})") from None
    if listing.left_out:
        warn_once("%s: left out: %s", origin, ", ".join(listing.left_out))
    return listing


def _read_split(root: Path, by_class: dict[str, list[Path]], classes: list[str], size: int) -> Dataset:
    paths = [path for pictures in by_class.values() for path in pictures]
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.repeat([numbers[name] for name in by_class], [len(pictures) for pictures in by_class.values()])
    images = np.empty((len(paths), size, size, 3), np.uint8)
    refused = shared_decoder().fit_files(paths, images)
    lines = [f"{paths[i]}: cannot be read: {str(error).rstrip('.')}" for i, error in refused.items()]
    if len(lines) == 1:
        raise UserError(f"{lines[0]}; replace or remove it")
    if lines:
        raise UserError("\n  ".join([f"{root}: {len(lines)} pictures cannot be read; replace or remove them:", *lines]))
    return Dataset(images, labels.astype(np.int32), tuple(classes))
