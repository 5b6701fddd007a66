"""Data sets in .npz files of `np.savez`.

Arrays: `train_images` and `train_labels`; `test_images` and `test_labels` where there is a test split; optional `train_coarse`
and `test_coarse` (superclass labels), `class_names` and `coarse_names` (strings). Default names of classes are 0, 1, 2, ...
"""

import os
import zipfile
from pathlib import Path

import numpy as np

from cifar_flax.data.dataset import Dataset, check_splits, checked_labels
from cifar_flax.errors import UserError

MAX_UNPACKED = 1 << 36  # bytes of all arrays, on machines with twice the memory
ARRAYS = (
    "train_images",
    "train_labels",
    "train_coarse",
    "test_images",
    "test_labels",
    "test_coarse",
    "class_names",
    "coarse_names",
)


def read(path: Path) -> dict[str, Dataset]:
    """Reads the splits of an .npz file.

    Args:
      path: a file with images uint8 [N, H, W] or [N, H, W, 1 or 3] and labels of any integer type [N].

    Returns:
      Splits with images uint8 [N, H, W, C] and labels int32 [N].

    Raises:
      UserError: the file is damaged, or an array is missing or has the wrong dtype, shape or range.
    """
    arrays = _load(path)
    if "train_images" not in arrays:
        raise UserError(
            f"{path}: has {', '.join(arrays) or 'no array'}, expected train_images, train_labels, test_images, test_labels"
        )
    splits = [split for split in ("train", "test") if f"{split}_images" in arrays]
    labels = {split: _required(path, arrays, f"{split}_labels") for split in splits}
    coarse = {split: _required(path, arrays, f"{split}_coarse") for split in splits} if "train_coarse" in arrays else {}
    names = _names(arrays, "class_names", labels)
    coarse_names = _names(arrays, "coarse_names", coarse)

    def dataset(split: str) -> Dataset:
        images = _images(f"{path}: {split}_images", arrays[f"{split}_images"])
        fine = checked_labels(f"{path}: {split}_labels", labels[split], len(images), len(names))
        if not coarse:
            return Dataset(images, fine, names)
        upper = checked_labels(f"{path}: {split}_coarse", coarse[split], len(images), len(coarse_names))
        return Dataset(images, fine, names, upper, coarse_names)

    datasets = {split: dataset(split) for split in splits}
    try:
        check_splits(datasets)
    except ValueError as e:
        raise UserError(f"{path}: {e}") from None
    return datasets


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        most = min(MAX_UNPACKED, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
        if unpacked > most:
            raise UserError(f"{path}: unpacks to {unpacked:,} bytes, more than the {most:,} that are allowed")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in ARRAYS if name in file.files}
    except UserError:
        raise
    except Exception as e:  # zipfile, the decompressors and NumPy raise nearly anything
        reason = ascii(str(e).partition("\n")[0][:200])[1:-1]
        raise UserError(f"{path}: damaged, or not an .npz of plain arrays ({reason})") from None


def _required(path: Path, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise UserError(f"{path}: has no array {name}")
    return arrays[name]


def _images(where: str, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise UserError(f"{where}: {images.dtype} {images.shape}, expected uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
    return images


def _names(arrays: dict[str, np.ndarray], name: str, labels: dict[str, np.ndarray]) -> tuple[str, ...]:
    if name in arrays:
        return tuple(str(item) for item in arrays[name].ravel())
    highest = max((int(array.max()) for array in labels.values() if array.size), default=-1)
    return tuple(str(label) for label in range(highest + 1))
