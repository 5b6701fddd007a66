"""Import of local files: CIFAR in all its forms, .npz files, Parquet and Arrow files, folders and zip files of pictures."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset, check_splits
from cifar_flax.data.pictures.files import is_picture, pictures_in
from cifar_flax.data.pictures.fit import fit_all
from cifar_flax.data.sources import cifar_archives, cifar_content, column_files, folders, huggingface, npz
from cifar_flax.data.sources.cifar_batches import UNPACK
from cifar_flax.data.sources.held_out import TEST_FRACTION, warn_of_no_test_split, with_test_split
from cifar_flax.data.sources.label_tables import is_table
from cifar_flax.data.sources.unpacked import is_zip, unpacked
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import sha256_of_file
from cifar_flax.files.installation import cache_folder

# The data set in an archive, by its SHA-256. Those of the binary versions are from url_checksums/cifar10.txt and cifar100.txt
# of TFDS, those of the python versions from keras.datasets, of files whose MD5s agree with https://www.cs.toronto.edu/~kriz/cifar.html.
OFFICIAL = {
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd": "cifar10",  # binary
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec": "cifar100",  # binary
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce": "cifar10",  # python
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7": "cifar100",  # python
}

CLASSES = {"cifar10": 10, "cifar100": 100}  # names that are those of the official archives alone
ARCHIVES = (*cifar_archives.SUFFIXES, ".zip")


class ImportResult(NamedTuple):
    """The splits of an archive, and its origin in words."""

    splits: dict[str, Dataset]
    source: str


def read(
    path: Path,
    name: str,
    image_size: int | None = None,
    allow_unverified: bool = False,
    test_fraction: float | None = None,
) -> ImportResult:
    """Reads CIFAR in any of its forms, an .npz file, Parquet or Arrow files, or pictures; folders of them, or zip files.

    Args:
      path: the file or folder.
      name: the data set that the user expects in it; cifar10 and cifar100 have the official rows, in any order and form, and
        are the one to read where both are there.
      image_size: pixels a side to resize to; None keeps the size of the images (pictures: 32).
      allow_unverified: accepts other rows under those two names.
      test_fraction: of each class of a set without a test split, as in `folders.read`; where it is None, of pictures in CLASS/
        alone, which are divided without being asked for. Refused where there is a test split.

    Raises:
      UserError: the file is missing, damaged, not the data set that `name` says, or of an unknown kind.
    """
    size = None if name in CLASSES else image_size  # their rows are compared before they are resized
    if path.is_dir():
        splits, source, official = _read_folder(path, name, size, test_fraction), f"folder {path.absolute()}", None
    elif path.is_file():
        _check_kind_and_size(path)
        digest = sha256_of_file(path)
        source, official = f"{path.name}, SHA-256 {digest}", OFFICIAL.get(digest)
        splits = _read_file(path, name, size, test_fraction)
    else:
        raise UserError(f"--archive={path}: no such file or folder")
    try:
        check_splits(splits)
    except ValueError as e:
        raise UserError(f"{path}: {e}") from None
    splits = _checked_name(path, name, splits, official, allow_unverified)
    if test_fraction:
        if "test" in splits:
            raise UserError(
                f"--test_fraction={test_fraction:g}: {path} has a test split, its own or its validation pictures; leave it out"
            )
        splits |= with_test_split(path, splits["train"], test_fraction)
    warn_of_no_test_split(path, splits)
    resized = {split: replace(dataset, images=fit_all(dataset.images, image_size)) for split, dataset in splits.items()}
    return ImportResult(resized, source)


def store(imported: ImportResult, key: str, name: str) -> cache.Manifest:
    """Writes an imported data set into the cache, unless it is there already.

    Raises:
      UserError: another data set has the name.
    """
    splits, source = imported
    try:
        entry = cache.manifest(key)
    except cache.CorruptCache:
        entry = None  # which an import mends
    if entry is None:
        return cache.write(key, splits, source, name)
    same = entry.splits.keys() == splits.keys() and all(
        entry.hashes(split) == {array: cache.hash_of(values) for array, values in dataset.arrays().items()}
        and (entry.class_names, entry.coarse_names) == (dataset.class_names, dataset.coarse_names)
        for split, dataset in splits.items()
    )
    if not same:
        raise UserError(
            f"--name={name}: there is another data set of this name, from {entry.source}; choose another name, "
            f"or remove it first:  rm -r {shlex.quote(str(cache_folder() / key))}"
        )
    try:
        for split in splits:
            cache.read(key, split, entry)
    except cache.CorruptCache:
        return cache.write(key, splits, source, name)
    return entry


def _check_kind_and_size(path: Path) -> None:
    large = is_zip(path) or path.suffix.lower() in (".npz", *column_files.SUFFIXES)
    if is_picture(path.name) or is_table(path.name):
        raise UserError(f"{path}: is a single file; name the folder that it lies in: --archive={path.parent}")
    if not large and not cifar_archives.is_tarball(path):
        raise UserError(
            f"{path}: no file of a kind that --archive takes: tarballs of CIFAR, .npz, .parquet, .arrow and .zip files; "
            "save arrays as .npz, unpack other archives and name the folder"
        )
    if is_zip(path):
        return  # what one may unpack to is checked where it is unpacked
    if (size := path.stat().st_size) > (npz.MAX_UNPACKED if large else cifar_archives.MAX_UNPACKED):
        unpack = "" if large else f"; {UNPACK}"
        raise UserError(f"{path}: has {size:,} bytes, far more than such a file can need{unpack}")


def _read_file(path: Path, name: str, image_size: int | None, test_fraction: float | None) -> dict[str, Dataset]:
    if path.suffix.lower() == ".npz":
        return npz.read(path)
    if path.suffix.lower() in column_files.SUFFIXES:
        return huggingface.read(path, [path], image_size)
    if not is_zip(path):
        return cifar_archives.read_tarball(path)
    if (cifar := cifar_archives.read_zip(path, name)) is not None:
        return cifar
    with unpacked(path) as folder:
        return _read_folder(folder, name, image_size, test_fraction, path)


def _read_folder(
    path: Path, name: str, image_size: int | None, test_fraction: float | None, zip_file: Path | None = None
) -> dict[str, Dataset]:
    if (cifar := cifar_archives.read_folder(path, name)) is not None:
        return cifar
    if files := column_files.column_files_in(path):
        return huggingface.read(path, files, image_size, zip_file)
    inner = sorted(file for file in (*path.glob("*"), *path.glob("*/*")) if file.name.lower().endswith(ARCHIVES))
    if inner and not pictures_in(path):
        first = "unpack the zip file, then " if zip_file else ""
        raise UserError(f"{path}: has no pictures, but the archive {inner[0].name!a}; {first}import that with --archive=PATH")
    # A fraction that is asked for is held out afterwards, of a set of any form.
    return folders.read(path, image_size, TEST_FRACTION if test_fraction is None else 0.0, zip_file)


def _checked_name(
    path: Path, name: str, splits: dict[str, Dataset], official: str | None, allow_unverified: bool
) -> dict[str, Dataset]:
    """The splits with the names of the official archives, where they are CIFAR's."""
    match = cifar_content.recognized(splits)
    really = official or (match[0] if match else None)
    if really and name in CLASSES and really != name:
        raise UserError(f"{path} is {really}, not {name}: import it with --name={really}")
    if match:
        return match[1]
    if name in CLASSES and not official:
        if (classes := splits["train"].num_classes) != CLASSES[name]:
            raise UserError(f"--name={name}: {path} has {classes} classes, expected {CLASSES[name]}; choose another name")
        if not allow_unverified:
            raise UserError(
                f"--name={name}: {path} has other rows than the official archive; choose another name, get the data set anew, "
                "or add --allow_unverified if you trust where it comes from"
            )
    return splits
