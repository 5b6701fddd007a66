"""Data sets in .npz files of `np.savez`.

Arrays: `train_images` and `train_labels`; `test_images` and `test_labels`, `val_images` and `val_labels` where there are such
splits; optional `train_coarse` and so on (superclass labels), `class_names` and `coarse_names` (text). Without names, the
numbers that occur among the labels are the classes, and their names. `x` and `y` stand for images and labels, before the split
or behind it, as in Keras' `x_train` and `y_train`; splits are called as those of folders are, in any case. Labels may be
[N, 1], as CIFAR's are there. The headers of all arrays are checked before any array is read.
"""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cifar_flax.data.class_names import MAX_CLASSES, MAX_NAME_LENGTH, checked_names
from cifar_flax.data.dataset import Dataset, checked_labels
from cifar_flax.data.sources.held_out import as_test_split, warn_of_unlabelled_test_split
from cifar_flax.data.sources.split_names import SPLIT_OF, SPLITS
from cifar_flax.errors import UserError
from cifar_flax.files.redact import reason
from cifar_flax.runtime.memory import check_allocation

MAX_UNPACKED = 1 << 36  # bytes of all arrays, on machines with twice the memory
SUSPICIOUS, DENSEST = 1 << 28, 250  # bytes above which an array must not unpack to so many times its size
MAX_SIDE = 4096  # pixels of an image
IMAGES = tuple(f"{split}_images" for split in SPLITS)
LABELS = tuple(f"{split}_{kind}" for split in SPLITS for kind in ("labels", "coarse"))
NAMES = ("class_names", "coarse_names")
KINDS = {"images": "images", "x": "images", "labels": "labels", "y": "labels", "coarse": "coarse"}
EXPECTED = "train_images, train_labels, test_images, test_labels, or Keras' x_train, y_train, x_test, y_test"


class Header(NamedTuple):
    """Shape and dtype of an array, from its file."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read(path: Path) -> dict[str, Dataset]:
    """Reads the splits of an .npz file.

    Args:
      path: a file with images uint8 [N, H, W] or [N, H, W, 1 or 3] and labels of any integer type [N].

    Returns:
      Splits with images uint8 [N, H, W, C] and labels int32 [N]. Validation images without test images are the test split,
      and a test split all of whose labels are -1 is left out; a line says so.

    Raises:
      UserError: the file is damaged, or an array is missing or has the wrong dtype, shape or range.
    """
    arrays = _load(path)
    splits = [split for split in SPLITS if f"{split}_images" in arrays]
    if "test" in splits and np.all(arrays.get("test_labels", 0) == -1):
        warn_of_unlabelled_test_split(path)
        splits.remove("test")
    labels, names = _classes(path, arrays, {split: f"{split}_labels" for split in splits}, "class_names")
    has_coarse = {split: f"{split}_coarse" for split in splits if "train_coarse" in arrays}
    coarse, coarse_names = _classes(path, arrays, has_coarse, "coarse_names")

    def dataset(split: str) -> Dataset:
        images = arrays[f"{split}_images"]
        images = images[..., np.newaxis] if images.ndim == 3 else images
        return Dataset(images, labels[split], names, coarse.get(split), coarse_names)

    return as_test_split(path, {split: dataset(split) for split in splits})


def _load(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays that are asked for, after their headers were checked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members: dict[str, zipfile.ZipInfo] = {}
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name in members:
                    raise UserError(f"{path}: has two arrays called {name!a}; write it anew")
                members[name] = member
            stored_as = _stored_names(path, members)
            wanted = {name: members[stored] for name, stored in stored_as.items()}
            if "train_images" not in wanted:
                there = ascii(", ".join(list(members)[:8]))[1:201].rstrip("'") or "no array"
                raise UserError(f"{path}: has {there}, expected {EXPECTED}")
            _check_sizes(path, wanted)
            _check_headers(path, {name: _header(archive, member) for name, member in wanted.items()})
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[stored_as[name]] for name in wanted}
        return {name: array.reshape(-1) if name in LABELS else array for name, array in arrays.items()}
    except UserError:
        raise
    except Exception as e:  # zipfile, the decompressors and NumPy raise nearly anything
        raise UserError(f"{path}: damaged, or not an .npz of plain arrays ({reason(e)})") from None


def _stored_names(path: Path, members: Iterable[str]) -> dict[str, str]:
    """The names in the file of the arrays that are read, by their names here."""
    stored_as: dict[str, str] = {}
    for stored in members:
        name = _name_here(stored)
        if name not in (*IMAGES, *LABELS, *NAMES):
            continue
        if name in stored_as:
            raise UserError(f"{path}: {stored_as[name]} and {stored} are both of {name}; remove one of them")
        stored_as[name] = stored
    return stored_as


def _name_here(stored: str) -> str:
    """The name of an array: train_images for X_train, validation_labels for val_labels."""
    first, _, last = stored.lower().partition("_")
    for split, kind in ((first, last), (last, first)):
        if split in SPLIT_OF and kind in KINDS:
            return f"{SPLIT_OF[split]}_{KINDS[kind]}"
    return stored.lower()


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    with archive.open(member) as file:
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read_header[np.lib.format.read_magic(file)](file)
        return Header(shape, dtype)


def _check_sizes(path: Path, members: dict[str, zipfile.ZipInfo]) -> None:
    unpacked = sum(member.file_size for member in members.values())
    if unpacked > MAX_UNPACKED:
        raise UserError(f"{path}: unpacks to {unpacked:,} bytes, more than the {MAX_UNPACKED:,} that are allowed")
    check_allocation(str(path), unpacked)
    for name, member in members.items():
        if member.file_size > max(SUSPICIOUS, DENSEST * member.compress_size):
            raise UserError(f"{path}: {name} unpacks to {member.file_size:,} bytes, more than {DENSEST} times its size")


def _check_headers(path: Path, headers: dict[str, Header]) -> None:
    for name, (shape, dtype) in headers.items():
        expected = ""
        if name in IMAGES:
            is_images = dtype == np.uint8 and len(shape) in (3, 4) and shape[3:] in ((), (1,), (3,)) and 0 not in shape
            expected = "" if is_images else "uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
            if is_images and max(shape[1:3]) > MAX_SIDE:
                raise UserError(f"{path}: {name} are {shape[1]} x {shape[2]} pixels, expected at most {MAX_SIDE} a side")
        elif name in LABELS:
            rows = headers.get(f"{name.partition('_')[0]}_images", Header((0,), dtype)).shape[0]
            expected = "" if dtype.kind in "iu" and shape in ((rows,), (rows, 1)) else f"integers ({rows},)"
        elif dtype.kind not in "SU" or len(shape) != 1 or shape[0] > MAX_CLASSES or dtype.itemsize > 16 * MAX_NAME_LENGTH:
            expected = f"text (N,), N at most {MAX_CLASSES:,}, of at most {MAX_NAME_LENGTH} characters"
        if expected:
            raise UserError(f"{path}: {name} are {_brief(dtype)} {shape}, expected {expected}")


def _brief(dtype: np.dtype) -> str:
    return str(dtype) if dtype.names is None else "records"


def _classes(
    path: Path, arrays: dict[str, np.ndarray], of_split: dict[str, str], names: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels, int32 [N], by split, and the names of their classes; both empty without splits."""
    missing = [name for name in of_split.values() if name not in arrays]
    if missing:
        raise UserError(f"{path}: has no array {missing[0]}")
    labels = {split: arrays[name] for split, name in of_split.items()}
    if not labels:
        return {}, ()
    if names not in arrays:
        return _numbered(path, labels, of_split)
    try:
        checked = checked_names(f"{path}: {names}", arrays[names].tolist())
    except ValueError:  # numbers that are no characters
        raise UserError(f"{path}: {names} are not text") from None
    return {
        split: checked_labels(f"{path}: {of_split[split]}", array, len(array), len(checked)) for split, array in labels.items()
    }, checked


def _numbered(
    path: Path, labels: dict[str, np.ndarray], names: dict[str, str]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Makes classes of the numbers that occur."""
    occurring = {split: np.unique(array, return_inverse=True) for split, array in labels.items()}
    for split, (numbers, _) in occurring.items():
        if len(numbers) > MAX_CLASSES:
            raise UserError(f"{path}: {names[split]} has {len(numbers):,} different labels, expected at most {MAX_CLASSES:,}")
        if len(numbers) and numbers[0] < 0:
            raise UserError(f"{path}: {names[split]}: labels go from {numbers[0]} to {numbers[-1]}, expected none below 0")
    values = sorted({int(number) for numbers, _ in occurring.values() for number in numbers})
    place = {value: i for i, value in enumerate(values)}
    numbered = {
        split: np.array([place[int(number)] for number in numbers], np.int32)[inverse]
        for split, (numbers, inverse) in occurring.items()
    }
    return numbered, tuple(map(str, values))
