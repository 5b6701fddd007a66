"""CIFAR-10 and CIFAR-100 as they lie about: official tarballs, zip files, and folders into which either was unpacked.

Archives are read in memory, member by member: nothing is extracted to disk, and paths inside are ignored.
"""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from cifar_flax.data.dataset import Dataset
from cifar_flax.data.sources import cifar_batches
from cifar_flax.data.sources.cifar_batches import LONGEST_REASON, MEMBERS
from cifar_flax.errors import UserError

MAX_MEMBER = 1 << 28  # bytes; the largest member of an official archive, the training batch of CIFAR-100, has 155 MB
MAX_UNPACKED = 1 << 30  # bytes of all members, ignored ones included, since gzip has to unpack those too
MAX_ATTRIBUTES = 1 << 16  # bytes of a header that holds a long name or other attributes
MAX_HEADERS = 200  # members, and headers of their attributes; the official archives have about ten


def read_tarball(path: Path) -> dict[str, Dataset]:
    """Reads a tarball; returns and raises as `cifar_batches.read`."""
    return cifar_batches.read(path, _members_of_tarball(path))


def read_zip(path: Path) -> dict[str, Dataset] | None:
    """Reads a zip file; None where it holds no version of CIFAR. Raises as `cifar_batches.read`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if _basename(member.filename) in MEMBERS and not member.is_dir()]
            if cifar_batches.layout_of(_basename(member.filename) for member in members) is None:
                return None
            _check_names(path, (_basename(member.filename) for member in members))
            for member in members:
                _check_size(path, member.filename, member.file_size)
            contents = {_basename(member.filename): archive.read(member) for member in members}
    except (
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        OSError,
        ValueError,
        RuntimeError,
        NotImplementedError,
    ) as e:
        raise UserError(f"{path}: truncated, or not a zip file ({str(e).partition(chr(10))[0]}); download it again") from None
    return cifar_batches.read(path, contents)


def read_folder(path: Path) -> dict[str, Dataset] | None:
    """Reads the files in a folder or in a folder of it; None where there is no version of CIFAR.

    Raises:
      UserError: as `cifar_batches.read`, or a file cannot be read.
    """
    try:
        files = [file for file in (*path.iterdir(), *path.glob("*/*")) if file.name in MEMBERS and file.is_file()]
        if cifar_batches.layout_of(file.name for file in files) is None:
            return None
        _check_names(path, (file.name for file in files))
        for file in files:
            _check_size(path, file.name, file.stat().st_size)
        return cifar_batches.read(path, {file.name: file.read_bytes() for file in files})
    except OSError as e:
        raise UserError(f"{e.filename or path}: cannot be read ({e.strerror})") from None


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


def _counting_headers() -> type[_Header]:
    """`_Header`, for one archive: tarfile keeps each member, and looks for them in a loop of its own."""
    left = MAX_HEADERS

    class Counted(_Header):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            nonlocal left
            left -= 1
            if left < 0:
                raise tarfile.ReadError(f"more than {MAX_HEADERS} members")
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
                    raise _far_larger(path, member.name)
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
                    raise UserError(f"{path}: is far larger than a CIFAR archive")
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, RuntimeError) as e:
        reason = str(e).partition("\n")[0]
        raise UserError(f"{path}: truncated, or not a tar archive ({reason}); download it again") from None
    return contents
