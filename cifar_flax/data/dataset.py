"""Labelled images in memory, their checks, and the stratified validation split."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache as once
from typing import Any, cast

import numpy as np
from absl import logging

from cifar_flax.errors import ConfigError, UserError

warn_once = once(logging.warning)  # a set is read, or divided, several times in a run


class RowView:
    """Some rows of a memory-mapped array, in an order of their own, each read when it is asked for.

    It is indexed along its first axis, and read as a whole by `np.asarray`.
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray) -> None:
        """Shows the rows, int [M], of `array`, [N, ...]."""
        self._array, self._rows = array, rows
        self.shape = (len(rows), *array.shape[1:])
        self.dtype, self.ndim = array.dtype, array.ndim
        self.nbytes = array.dtype.itemsize * math.prod(self.shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """The rows, copied."""
        return np.array(self._array[self._rows[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the rows have to be copied")
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class Dataset:
    """One split of a set of labelled images, in canonical order.

    Attributes:
      images: uint8 [N, H, W, C], C 1 or 3; may be memory-mapped, or a view of some rows of a memory-mapped file.
      labels: int32 [N], in [0, len(class_names)).
      class_names: one per class.
      coarse_labels: int32 [N], in [0, len(coarse_names)), or None where the set has no superclasses.
      coarse_names: one per superclass; empty where there are none.
      coarse_of_fine: the superclass of each class over all splits, -1 for a class that occurs in none; the cache fills it in.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    coarse_labels: np.ndarray | None = None
    coarse_names: tuple[str, ...] = ()
    coarse_of_fine: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of (fine) classes, whether or not all occur."""
        return len(self.class_names)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name: images, labels and, where the set has superclasses, coarse_labels."""
        arrays = {"images": self.images, "labels": self.labels}
        return arrays if self.coarse_labels is None else {**arrays, "coarse_labels": self.coarse_labels}

    def take(self, indices: np.ndarray) -> "Dataset":
        """The rows at `indices`, int [M], in that order; images of a memory-mapped file are read when they are asked for."""
        view = isinstance(self.images, np.memmap)
        images = cast(np.ndarray, RowView(self.images, indices)) if view else self.images[indices]
        coarse = None if self.coarse_labels is None else self.coarse_labels[indices]
        return dataclasses.replace(self, images=images, labels=self.labels[indices], coarse_labels=coarse)

    def in_memory(self) -> "Dataset":
        """The same rows, all of them read."""
        return dataclasses.replace(self, images=np.array(self.images))

    def split(self, validation_fraction: float, seed: int) -> tuple["Dataset", "Dataset | None"]:
        """Splits off a stratified validation set: `validation_fraction` of each class, rounded to whole images.

        Args:
          validation_fraction: in [0, 1); 0 gives no validation set.
          seed: chooses the images; the split depends on nothing else.

        Returns:
          (train, validation or None), each in canonical order.

        Raises:
          ConfigError: the fraction is so small or so large that one side would be empty.
        """
        if validation_fraction == 0:
            return self, None
        rng = np.random.default_rng(seed)
        held_out = np.zeros(len(self), bool)
        for rows in rows_by_class(self.labels):
            held_out[rng.permutation(rows)[: round(len(rows) * validation_fraction)]] = True
        if not 0 < held_out.sum() < len(self):
            raise ConfigError(
                f"config.data.validation_fraction: {validation_fraction} of {len(self)} images in {self.num_classes} classes "
                f"leaves {'none to train on; lower it' if held_out.all() else 'no validation image; raise it, or 0 for none'}"
            )
        if untrained := len(np.setdiff1d(self.labels, self.labels[~held_out])):
            warn_once(
                "%g of each class is held out, which leaves %d of %d classes no image to train on",
                *(validation_fraction, untrained, self.num_classes),
            )
        return self.take(np.flatnonzero(~held_out)), self.take(np.flatnonzero(held_out))


def rows_by_class(labels: np.ndarray) -> list[np.ndarray]:
    """The indices of each class that occurs among labels, int [N]: ascending, int64 each, the lowest class first."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(labels) else []


def check_splits(splits: Mapping[str, Dataset]) -> None:
    """Checks the splits of one data set.

    Raises:
      ValueError: class or coarse names or the shape of the images differ between splits, or an array does not have the dtype,
        shape and range that `Dataset` states; the message says which, in one line.
    """
    first_split, first = next(iter(splits.items()))
    for split, dataset in splits.items():
        images = dataset.images
        if (dataset.class_names, dataset.coarse_names) != (first.class_names, first.coarse_names):
            raise ValueError(f"{split} has other class names than {first_split}")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise ValueError(f"images of {split} are {images.dtype} {images.shape}, expected uint8 (N, H, W, 1 or 3)")
        if images.shape[1:] != first.images.shape[1:]:
            raise ValueError(f"images of {split} are {images.shape[1:]}, those of {first_split} {first.images.shape[1:]}")
        _check_labels(f"{split}: ", dataset.labels, len(images), dataset.num_classes)
        if dataset.coarse_labels is not None:
            _check_labels(f"{split}: coarse ", dataset.coarse_labels, len(images), len(dataset.coarse_names))
    superclass_map(splits.values())


def superclass_map(splits: Iterable[Dataset]) -> tuple[int, ...]:
    """The superclass of each class, -1 for a class that occurs in none of the splits; empty without superclasses.

    Raises:
      ValueError: images of one class are of two superclasses.
    """
    result: np.ndarray | None = None
    labelled = [(dataset, dataset.coarse_labels) for dataset in splits if dataset.coarse_labels is not None]
    for dataset, coarse_labels in labelled:
        result = np.full(dataset.num_classes, -1, np.int32) if result is None else result
        result[dataset.labels] = coarse_labels
    for dataset, coarse_labels in labelled:
        if result is not None and (mixed := result[dataset.labels] != coarse_labels).any():
            name = dataset.class_names[dataset.labels[np.argmax(mixed)]]
            raise ValueError(f"images of the class {name} are of several superclasses, expected one")
    return () if result is None else tuple(result.tolist())


def _check_labels(prefix: str, labels: np.ndarray, rows: int, classes: int) -> None:
    problem = _label_problem(labels, rows, classes) or (
        "" if labels.dtype == np.int32 else f"labels are {labels.dtype}, expected int32"
    )
    if problem:
        raise ValueError(prefix + problem)


def checked_labels(where: str, labels: np.ndarray, rows: int, classes: int) -> np.ndarray:
    """Checks labels out of a file.

    Args:
      where: the file, for the message.
      labels: any integers, [rows], in [0, classes).
      rows: number of images.
      classes: number of classes.

    Returns:
      int32 [rows].

    Raises:
      UserError: the labels have another shape, dtype or range.
    """
    problem = _label_problem(labels, rows, classes)
    if problem:
        raise UserError(f"{where}: {problem}")
    return labels.astype(np.int32)


def _label_problem(labels: np.ndarray, rows: int, classes: int) -> str:
    if labels.shape != (rows,) or labels.dtype.kind not in "iu":
        return f"labels are {labels.dtype} {labels.shape}, expected integers ({rows},)"
    if rows and not 0 <= labels.min() <= labels.max() < classes:
        return f"labels go from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}"
    return ""
