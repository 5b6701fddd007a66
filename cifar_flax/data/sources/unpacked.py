"""A zip file of pictures, unpacked for as long as they are read."""

import errno
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cifar_flax.data.dataset import warn_once
from cifar_flax.errors import UserError
from cifar_flax.files.redact import reason
from cifar_flax.files.walk import is_shown

MAX_MEMBERS = 5_000_000
MAX_BYTES = 1 << 37  # of all members; what one of them unpacks to is limited by the size that its entry states
UTF8 = 0x800  # in the flags of a member: its name is UTF-8; else it is code page 437, by the specification (APPNOTE, D.1)
DEEPEST, LONGEST_NAME = 100, 60  # folders above a file; characters of its name in a message
SUSPICIOUS, DENSEST = 1 << 28, 20  # bytes above which a zip file must not unpack to so many times its size


def is_zip(path: Path) -> bool:
    """Whether a path is that of a zip file, by its suffix."""
    return path.suffix.lower() == ".zip" and path.is_file()


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the files of a zip file, in whose place errors name the zip file.

    Raises:
      UserError: it is damaged, encrypted, unpacks to far more than it holds, or to more than the disk does; or a file in it has
        the name of another, or one that no file can have here.
    """
    with tempfile.TemporaryDirectory(prefix="cifar_flax-") as folder:
        root = Path(folder) / path.name
        root.mkdir()
        try:
            with zipfile.ZipFile(path) as archive:
                _check(path, archive, shutil.disk_usage(folder).free)
                members = archive.infolist()
                for member in members:
                    member.filename = _name(member, path).replace("\\", "/")  # of old tools of Windows
                _check_names(path, members)
                for member in members:
                    _extract(path, archive, member, root)
        except UserError:
            raise
        except Exception as e:  # zipfile and the decompressors raise nearly anything
            if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"{path}: {tempfile.gettempdir()} is full; set TMPDIR to another disk") from None
            raise UserError(f"{path}: truncated, or not a zip file that can be read ({reason(e)})") from None
        try:
            yield root
        except UserError as e:
            e.args = (str(e).replace(str(root), str(path)),)
            raise


def _extract(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, root: Path) -> None:
    """Unpacks a file, always below the folder `root`, whatever its name says."""
    try:
        archive.extract(member, root)
    except OSError as e:
        if e.errno in (None, errno.ENOSPC, errno.EDQUOT):  # not from the operating system, or about the disk
            raise
        raise UserError(f"{path}: {_shown(member)} cannot be unpacked ({e.strerror}); unpack it, and name the folder") from None


def _check_names(path: Path, members: list[zipfile.ZipInfo]) -> None:
    files: set[str] = set()
    for member in members:
        parts = [part for part in member.filename.split("/") if part not in ("", ".", "..")]  # those that zipfile makes
        if (depth := len(parts) - 1) > DEEPEST:
            deep = f"lies {depth:,} folders deep, expected at most {DEEPEST}"
            raise UserError(f"{path}: {_shown(member)} {deep}; unpack it, and name the folder")
        if not member.is_dir() and all(map(is_shown, parts)):
            if (name := "/".join(parts)) in files:
                raise UserError(f"{path}: {_shown(member)} is in it twice; pack it anew")
            files.add(name)


def _shown(member: zipfile.ZipInfo) -> str:
    """The name of a file in a message."""
    name = member.filename
    return ascii(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}...")


def _name(member: zipfile.ZipInfo, path: Path) -> str:
    """The name of a file; UTF-8 too where the zip file does not say that it is, as macOS leaves out."""
    named = member.filename == member.orig_filename  # or else zipfile has it from a field that is UTF-8
    if member.flag_bits & UTF8 or member.filename.isascii() or not named:
        return member.filename
    try:
        return member.filename.encode("cp437").decode()  # as which zipfile has read it
    except UnicodeError:
        warn_once(
            "%s: names such as %r are in an encoding that it does not name, and may be wrong; pack it anew",
            path,
            member.filename,
        )
        return member.filename


def _check(path: Path, archive: zipfile.ZipFile, free: int) -> None:
    members = archive.infolist()
    size, packed = sum(member.file_size for member in members), path.stat().st_size
    if len(members) > MAX_MEMBERS or size > min(MAX_BYTES, max(SUSPICIOUS, DENSEST * packed)):
        raise UserError(
            f"{path}: {len(members):,} files of {size:,} bytes, far more than a file of {packed:,} bytes can mean; "
            "unpack it, and name the folder"
        )
    if size > free:
        raise UserError(
            f"{path}: unpacks to {size:,} bytes, and {tempfile.gettempdir()} has {free:,}; set TMPDIR to another disk"
        )
