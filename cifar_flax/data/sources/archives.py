"""Import of local files: the official CIFAR tarballs, .npz files and folders of pictures."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cifar_flax.data.dataset import Dataset, check_splits
from cifar_flax.data.pictures.fit import fit_all
from cifar_flax.data.sources import cifar_archives, folders, npz
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import sha256_of_file


class OfficialArchive(NamedTuple):
    """A published archive: the data set in it, its size in bytes and its SHA-256."""

    name: str
    bytes: int
    sha256: str


# Checksums of the binary versions are from url_checksums/cifar10.txt and cifar100.txt of TFDS, those of the python versions
# from keras.datasets, of files whose MD5s agree with https://www.cs.toronto.edu/~kriz/cifar.html.
OFFICIAL = {
    "cifar-10-binary.tar.gz": OfficialArchive(
        "cifar10", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    ),
    "cifar-100-binary.tar.gz": OfficialArchive(
        "cifar100", 168_513_733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
    ),
    "cifar-10-python.tar.gz": OfficialArchive(
        "cifar10", 170_498_071, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    ),
    "cifar-100-python.tar.gz": OfficialArchive(
        "cifar100", 169_001_437, "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
    ),
}


CLASSES = {"cifar10": 10, "cifar100": 100}  # names that are those of the official archives alone


class ImportResult(NamedTuple):
    """The splits of an archive, and its origin in words."""

    splits: dict[str, Dataset]
    source: str


def read(path: Path, name: str, image_size: int | None = None, allow_unverified: bool = False) -> ImportResult:
    """Reads a CIFAR tarball, an .npz file or a folder of pictures.

    Args:
      path: the file or folder.
      name: the data set that the user expects in it.
      image_size: pixels a side to resize to; None keeps the size of the images (folders: 32).
      allow_unverified: accepts a tarball without an official checksum, such as a repacked one.

    Raises:
      UserError: the archive is missing, damaged, not official, of another data set or of an unknown kind.
    """
    if (path.is_dir() or path.suffix == ".npz") and name in CLASSES:
        raise UserError(f"--name={name}: is that of CIFAR's own archives; choose another name for {path}")
    if path.is_dir():
        return ImportResult(folders.read(path, image_size), f"folder {path.absolute()}")
    if not path.is_file():
        raise UserError(f"--archive={path}: no such file or folder")
    if (size := path.stat().st_size) > (npz.MAX_UNPACKED if path.suffix == ".npz" else cifar_archives.MAX_UNPACKED):
        raise UserError(f"{path}: has {size:,} bytes, far more than such a file can need")
    digest = sha256_of_file(path)
    if path.suffix == ".npz":
        splits = npz.read(path)
    else:
        _check_official(path, name, digest, allow_unverified)
        splits = cifar_archives.read(path)
        if (classes := splits["train"].num_classes) != CLASSES.get(name, classes):
            raise UserError(f"--name={name}: {path} has {classes} classes, expected {CLASSES[name]}; choose another name")
    try:
        check_splits(splits)
    except ValueError as e:
        raise UserError(f"{path}: {e}") from None
    resized = {split: replace(dataset, images=fit_all(dataset.images, image_size)) for split, dataset in splits.items()}
    return ImportResult(resized, f"{path.name}, SHA-256 {digest}")


def _check_official(path: Path, name: str, digest: str, allow_unverified: bool) -> None:
    by_digest = {archive.sha256: archive for archive in OFFICIAL.values()}
    official = by_digest.get(digest)
    if official and official.name != name:
        raise UserError(f"{path} is {official.name}, not {name}: import it with --name={official.name}")
    if official or allow_unverified:
        return
    size, expected = path.stat().st_size, OFFICIAL.get(path.name)
    if expected and size < expected.bytes:
        raise UserError(f"{path}: truncated ({size:,} of {expected.bytes:,} bytes); download it again")
    raise UserError(
        f"{path}: not an official CIFAR archive (its SHA-256 is {digest}); "
        "download it again, or add --allow_unverified if you trust where it comes from"
    )
