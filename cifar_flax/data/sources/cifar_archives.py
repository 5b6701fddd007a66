"""CIFAR-10 and CIFAR-100 from their tarballs, python and binary versions.

Tarballs are read in memory, member by member: nothing is extracted to disk, and paths inside are ignored. Pickles can build
NumPy arrays only. Rows keep the order of the files, which is the order of `id` in TFDS.
"""

import io
import lzma
import pickle
import pickletools
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from cifar_flax.data.class_names import checked_names
from cifar_flax.data.dataset import Dataset, checked_labels
from cifar_flax.errors import UserError

MAX_MEMBER = 1 << 28  # bytes; the largest member of an official archive, the training batch of CIFAR-100, has 155 MB
MAX_UNPACKED = 1 << 30  # bytes of all members, ignored ones included, since gzip has to unpack those too
MAX_ATTRIBUTES = 1 << 16  # bytes of a header that holds a long name or other attributes
MAX_HEADERS = 200  # members, and headers of their attributes; the official archives have about ten
LONGEST_REASON = 200  # characters quoted from another library's message
SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE  # bytes per image


class Layout(NamedTuple):
    """Member names of one version of CIFAR, and the keys of labels and names in them."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    names: tuple[str, ...]  # member (binary) or key in `meta` (python) with the class names, then with the coarse names
    labels: tuple[str, ...]  # keys in a python batch: class labels, then coarse labels
    meta: str = ""  # the member with all names, in python versions


LAYOUTS = (
    Layout(("train",), ("test",), ("fine_label_names", "coarse_label_names"), ("fine_labels", "coarse_labels"), "meta"),
    Layout(tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",), ("label_names",), ("labels",), "batches.meta"),
    Layout(("train.bin",), ("test.bin",), ("fine_label_names.txt", "coarse_label_names.txt"), ()),
    Layout(tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",), ("batches.meta.txt",), ()),
)
MEMBERS = {name for layout in LAYOUTS for name in (*layout.train, *layout.test, *layout.names, layout.meta)} - {""}


def read(path: Path) -> dict[str, Dataset]:
    """Reads the splits `train` and `test`, with the class names, and coarse labels and names in CIFAR-100.

    Returns:
      Splits with images uint8 [N, 32, 32, 3].

    Raises:
      UserError: the file is damaged or is not a CIFAR archive.
    """
    members = _members(path)
    for layout in LAYOUTS:
        needed = [*layout.train, *layout.test, *([layout.meta] if layout.meta else layout.names)]
        if all(name in members for name in needed):
            read_layout = _read_python if layout.meta else _read_binary
            return read_layout(path, layout, members)
    raise UserError(f"{path}: not a CIFAR archive (it lacks the members of all four versions, python and binary)")


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


def _members(path: Path) -> dict[str, bytes]:
    """Reads the members of a CIFAR archive, by their last path component."""
    contents: dict[str, bytes] = {}
    unpacked = 0
    try:
        with tarfile.open(path, "r:*", tarinfo=_counting_headers()) as tar:
            for member in tar:
                unpacked += max(member.size, 0)
                name = member.name.rpartition("/")[2]
                if unpacked > MAX_UNPACKED or (name in MEMBERS and member.size > MAX_MEMBER):
                    raise UserError(f"{path}: {member.name[-LONGEST_REASON:]} is far larger than anything in a CIFAR archive")
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


def _read_binary(path: Path, layout: Layout, members: Mapping[str, bytes]) -> dict[str, Dataset]:
    """Reads rows of coarse label (CIFAR-100 only), label, and 3072 bytes: the red, green and blue planes."""
    names = [checked_names(f"{path}: {name}", filter(None, members[name].splitlines())) for name in layout.names]

    def split(files: tuple[str, ...]) -> Dataset:
        width = len(names) + PIXELS
        data = b"".join(members[name] for name in files)
        if not data or len(data) % width:
            raise UserError(f"{path}: {files[0]} has {len(data)} bytes, not a multiple of the row length {width}")
        rows = np.frombuffer(data, np.uint8).reshape(-1, width)
        return _dataset(path, files[0], rows[:, len(names) :], list(rows[:, : len(names)].T[::-1]), names)

    return {"train": split(layout.train), "test": split(layout.test)}


def _read_python(path: Path, layout: Layout, members: Mapping[str, bytes]) -> dict[str, Dataset]:
    meta = _unpickle(path, layout.meta, members[layout.meta])
    names = [_names(path, layout.meta, meta, key) for key in layout.names]

    def split(files: tuple[str, ...]) -> Dataset:
        batches = [(name, _unpickle(path, name, members[name])) for name in files]
        try:
            pixels = np.concatenate([_entry(path, name, batch, "data") for name, batch in batches])
            labels = [np.concatenate([_entry(path, name, batch, key) for name, batch in batches]) for key in layout.labels]
        except (TypeError, ValueError) as e:
            raise UserError(f"{path}: {files[0]} is not a CIFAR batch ({e})") from None
        return _dataset(path, files[0], pixels, labels, names)

    return {"train": split(layout.train), "test": split(layout.test)}


def _dataset(path: Path, member: str, pixels: np.ndarray, labels: list[np.ndarray], names: list[tuple[str, ...]]) -> Dataset:
    """Converts pixels [N, 3072] and labels [N] of classes and, in CIFAR-100, of superclasses."""
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise UserError(f"{path}: {member} has pixels {pixels.dtype} {pixels.shape}, expected uint8 (N, {PIXELS})")
    images = np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    checked = [
        checked_labels(f"{path}: {member}", array, len(images), len(of)) for array, of in zip(labels, names, strict=True)
    ]
    return Dataset(images, checked[0], names[0], *((checked[1], names[1]) if len(names) > 1 else ()))


ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),  # its name since NumPy 2
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # writes bytes in protocol 2 of Python 3
}


class _ArraysOnly(pickle.Unpickler):
    """Unpickles dicts, lists, strings, numbers and NumPy arrays, as in the batches of CIFAR.

    An array begins empty and is filled with bytes of the pickle, so that no array is larger than the file.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only NumPy arrays are allowed")
        if name == "_reconstruct":
            return lambda *_: np.empty(0, np.uint8)
        if name == "ndarray":
            return None  # an argument of _reconstruct, never called
        return super().find_class(module, name)


def _check_sizes(content: bytes) -> None:
    """Scans the opcodes of a pickle without executing them, since pickle allocates whatever sizes they name.

    Raises:
      ValueError: an index of the memo is larger than the pickle.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "LONG_BINPUT" and isinstance(argument, int) and argument > len(content):
            raise ValueError(f"it asks for a memo of {argument:,} entries")


def _unpickle(path: Path, member: str, content: bytes) -> dict[str, Any]:
    try:
        _check_sizes(content)
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as e:  # a damaged pickle can raise nearly anything
        reason = ascii(str(e).partition("\n")[0][:LONGEST_REASON])[1:-1]
        raise UserError(f"{path}: {member} is not a CIFAR batch ({reason})") from None
    if not isinstance(batch, dict):
        raise UserError(f"{path}: {member} is not a CIFAR batch (a {type(batch).__name__}, expected a dict)")
    return {_text(key): value for key, value in batch.items()}


def _entry(path: Path, member: str, batch: Mapping[str, Any], key: str) -> Any:
    if key not in batch:
        raise UserError(f"{path}: {member} has no {key}")
    return batch[key]


def _names(path: Path, member: str, meta: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = _entry(path, member, meta, key)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise UserError(f"{path}: {member} is not a CIFAR batch ({key} is no list of names)")
    return checked_names(f"{path}: {member}", names)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
