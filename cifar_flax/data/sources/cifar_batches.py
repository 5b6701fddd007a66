"""The files of CIFAR-10 and CIFAR-100, python and binary versions, wherever they were kept.

Pickles can build NumPy arrays only. Rows keep the order of the files, which is the order of `id` in TFDS.
"""

import io
import pickle
import pickletools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cifar_flax.data.class_names import checked_names
from cifar_flax.data.dataset import Dataset, checked_labels
from cifar_flax.errors import UserError
from cifar_flax.files.redact import reason

SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE  # bytes per image
UNPACK = "if it holds pictures, unpack it and name the folder: --archive=FOLDER"


class Layout(NamedTuple):
    """Member names of one version of CIFAR, and the keys of labels and names in them."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    names: tuple[str, ...]  # member (binary) or key in `meta` (python) with the class names, then with the coarse names
    labels: tuple[str, ...]  # keys in a python batch: class labels, then coarse labels
    meta: str = ""  # the member with all names, in python versions

    @property
    def dataset(self) -> str:
        """The name of the data set, by whether it has superclasses."""
        return "cifar100" if len(self.names) > 1 else "cifar10"

    @property
    def needed(self) -> set[str]:
        """The members without which it cannot be read."""
        return {*self.train, *self.test, *([self.meta] if self.meta else self.names)}


LAYOUTS = (
    Layout(("train",), ("test",), ("fine_label_names", "coarse_label_names"), ("fine_labels", "coarse_labels"), "meta"),
    Layout(tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",), ("label_names",), ("labels",), "batches.meta"),
    Layout(("train.bin",), ("test.bin",), ("fine_label_names.txt", "coarse_label_names.txt"), ()),
    Layout(tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",), ("batches.meta.txt",), ()),
)
MEMBERS = {name for layout in LAYOUTS for name in (*layout.train, *layout.test, *layout.names, layout.meta)} - {""}


def layout_of(names: Iterable[str]) -> Layout | None:
    """The version of CIFAR whose files are all among `names`."""
    there = set(names)
    return next((layout for layout in LAYOUTS if layout.needed <= there), None)


def read(path: Path, members: Mapping[str, bytes]) -> dict[str, Dataset]:
    """Reads the splits `train` and `test`, with the class names, and coarse labels and names in CIFAR-100.

    Args:
      path: where the files were, for messages.
      members: their contents by name, without folders.

    Returns:
      Splits with images uint8 [N, 32, 32, 3].

    Raises:
      UserError: a file is damaged, or those of all four versions are incomplete.
    """
    layout = layout_of(members)
    if layout is None:
        raise UserError(f"{path}: not a CIFAR archive (it lacks the members of all four versions, python and binary); {UNPACK}")
    return (_read_python if layout.meta else _read_binary)(path, layout, members)


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
        checked_labels(f"{path}: {member}", array, len(images), len(classes))
        for array, classes in zip(labels, names, strict=True)
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
        raise UserError(f"{path}: {member} is not a CIFAR batch ({reason(e)})") from None
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
