"""CIFAR-10 and CIFAR-100 as they lie about: official tarballs, zip files, and folders into which either was unpacked.

Archives are read in memory, member by member: nothing is extracted to disk, and paths inside are ignored.
"""

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from cifar_flax.data.dataset import Dataset
from cifar_flax.data.sources import cifar_batches
from cifar_flax.data.sources.cifar_batches import MEMBERS, UNPACK
from cifar_flax.errors import UserError
from cifar_flax.files.redact import LONGEST_REASON, reason

MAX_MEMBER = 1 << 28  # bytes; the largest member of an official archive, the training batch of CIFAR-100, has 155 MB
MAX_UNPACKED = 1 << 30  # bytes of all members, ignored ones included, since gzip has to unpack those too
MAX_ATTRIBUTES = 1 << 16  # bytes of a header that holds a long name or other attributes
DEEPEST = 2  # folders below the one that is named: ~/.keras/datasets holds cifar-10-batches-py-target/cifar-10-batches-py/
MAX_HEADERS = 200  # members, and headers of their attributes; the official archives have about ten
SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
UNREADABLE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, RuntimeError)


def is_tarball(path: Path) -> bool:
    """Whether a file is called like a tarball, or begins like one."""
    if path.name.lower().endswith(SUFFIXES):
        return True
    try:
        with tarfile.open(path, "r:*", tarinfo=_counting_headers()):
            return True
    except UNREADABLE:
        return False


def read_tarball(path: Path) -> dict[str, Dataset]:
    """Reads a tarball; returns and raises as `cifar_batches.read`, and refuses one that holds both data sets."""
    members = _members_of_tarball(path)
    datasets = sorted({layout.dataset for layout in cifar_batches.LAYOUTS if layout.needed <= members.keys()})
    if len(datasets) > 1:
        raise UserError(f"{path}: has both {' and '.join(datasets)}; unpack it, and choose with --archive=FOLDER")
    return cifar_batches.read(path, members)


def read_zip(path: Path, name: str) -> dict[str, Dataset] | None:
    """Reads a zip file; None where it holds no version of CIFAR.

    Args:
      path: the zip file.
      name: the data set to read where it holds both: cifar10 or cifar100.

    Raises:
      UserError: as `cifar_batches.read`; or it holds both and `name` is neither, or one of them twice.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            folders: dict[str, list[zipfile.ZipInfo]] = {}
            for member in archive.infolist():
                if _basename(member.filename) in MEMBERS and not member.is_dir():
                    folders.setdefault(member.filename.rpartition("/")[0], []).append(member)
            folder = _folder_to_read(
                path, {folder: [_basename(member.filename) for member in members] for folder, members in folders.items()}, name
            )
            if folder is None:
                return None
            _check_names(path, (_basename(member.filename) for member in folders[folder]))
            for member in folders[folder]:
                _check_size(path, member.filename, member.file_size)
            contents = {_basename(member.filename): archive.read(member) for member in folders[folder]}
    except UserError:
        raise
    except Exception as e:  # zipfile and the decompressors raise nearly anything
        raise UserError(f"{path}: truncated, or not a zip file ({reason(e)}); download it again") from None
    return cifar_batches.read(path, contents)


def read_folder(path: Path, name: str) -> dict[str, Dataset] | None:
    """Reads the files in a folder or at most `DEEPEST` folders below; None where there is no version of CIFAR.

    Args:
      path: the folder.
      name: the data set to read where it holds both: cifar10 or cifar100.

    Raises:
      UserError: as `read_zip`, or a file cannot be read.
    """
    try:
        files = {
            str(folder): [member for member in MEMBERS if (folder / member).is_file()] for folder in _folders(path, DEEPEST)
        }
        folder = _folder_to_read(path, files, name)
        if folder is None:
            return None
        there = [Path(folder, member) for member in files[folder]]
        for file in there:
            _check_size(path, file.name, file.stat().st_size)
        return cifar_batches.read(path, {file.name: file.read_bytes() for file in there})
    except OSError as e:
        raise UserError(f"{e.filename or path}: cannot be read ({e.strerror})") from None


def _folders(path: Path, deepest: int) -> Iterator[Path]:
    """A folder and those below it, sorted."""
    yield path
    if deepest:
        with os.scandir(path) as entries:
            below = sorted(entry.path for entry in entries if entry.is_dir())
        for folder in below:
            yield from _folders(Path(folder), deepest - 1)


def _folder_to_read(path: Path, files: Mapping[str, Iterable[str]], name: str) -> str | None:
    """Chooses one of the folders with the files of a version of CIFAR; None where there is none."""
    layouts = {folder: layout for folder, names in files.items() if (layout := cifar_batches.layout_of(names)) is not None}
    datasets = sorted({layout.dataset for layout in layouts.values()})
    if len(datasets) > 1:
        if name not in datasets:
            raise UserError(f"{path}: has both {' and '.join(datasets)}; choose with --name={' or --name='.join(datasets)}")
        layouts = {folder: layout for folder, layout in layouts.items() if layout.dataset == name}
    for preferred in cifar_batches.LAYOUTS:
        copies = sorted(folder for folder, layout in layouts.items() if layout == preferred)
        if len(copies) > 1:
            raise UserError(f"{path}: has two copies of {preferred.dataset}, {copies[0]!a} and {copies[1]!a}; name one of them")
        if copies:
            return copies[0]
    return None


def _basename(name: str) -> str:
    return name.rpartition("/")[2]


def _check_names(path: Path, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{path}: has two members called {name}")
        seen.add(name)


def _check_size(path: Path, name: str, size: int) -> None:
    if size > MAX_MEMBER:
        raise _far_larger(path, name)


def _far_larger(path: Path, name: str) -> UserError:
    return UserError(f"{path}: {name[-LONGEST_REASON:]} is far larger than anything in a CIFAR archive")


class _Header(tarfile.TarInfo):
    """A member; refuses what would fill the memory while the archive is only listed."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0:
            raise tarfile.ReadError("a negative size")
        if header.type not in tarfile.REGULAR_TYPES and header.size > MAX_ATTRIBUTES:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


class _TooManyMembers(tarfile.TarError):
    """The archive has more members than one of CIFAR."""


def _counting_headers() -> type[_Header]:
    """`_Header`, for one archive: tarfile keeps each member, and looks for them in a loop of its own."""
    left = MAX_HEADERS

    class Counted(_Header):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            nonlocal left
            left -= 1
            if left < 0:
                raise _TooManyMembers
            return super().frombuf(buf, encoding, errors)

    return Counted


def _members_of_tarball(path: Path) -> dict[str, bytes]:
    """Reads the members of a CIFAR archive, by their last path component."""
    contents: dict[str, bytes] = {}
    unpacked = 0
    try:
        with tarfile.open(path, "r:*", tarinfo=_counting_headers()) as tar:
            for member in tar:
                unpacked += max(member.size, 0)
                name = _basename(member.name)
                if unpacked > MAX_UNPACKED or (name in MEMBERS and member.size > MAX_MEMBER):
                    raise UserError(f"{_far_larger(path, member.name)}; {UNPACK}")
                if name not in MEMBERS or not member.isreg():
                    continue
                if name in contents:
                    raise UserError(f"{path}: has two members called {name}")
                if member.issparse():
                    raise UserError(f"{path}: {name} is a sparse file, of which a CIFAR archive has none")
                file = tar.extractfile(member)
                contents[name] = file.read() if file else b""
            while rest := tar.fileobj.read(1 << 20):  # the checksum of gzip and others is at the very end
                unpacked += len(rest)
                if unpacked > MAX_UNPACKED:
                    raise UserError(f"{path}: is far larger than a CIFAR archive; {UNPACK}")
    except _TooManyMembers:
        raise UserError(f"{path}: not a CIFAR archive (more than {MAX_HEADERS} members); {UNPACK}") from None
    except UNREADABLE as e:
        raise UserError(f"{path}: truncated, or not a tar archive ({reason(e)}); download it again") from None
    return contents
