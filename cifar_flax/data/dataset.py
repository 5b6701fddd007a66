"""Labelled images in memory, and the stratified validation split."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from cifar_flax.errors import ConfigError, UserError


@dataclass(frozen=True)
class Dataset:
    """One split of a set of labelled images, in canonical order.

    Attributes:
      images: uint8 [N, H, W, C], C 1 or 3; may be memory-mapped.
      labels: int32 [N], in [0, len(class_names)).
      class_names: one a class.
      coarse_labels: int32 [N], in [0, len(coarse_names)), or None where the set has no superclasses.
      coarse_names: one a superclass; empty without.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    coarse_labels: np.ndarray | None = None
    coarse_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of (fine) classes, whether or not all occur."""
        return len(self.class_names)

    def take(self, indices: np.ndarray) -> "Dataset":
        """The rows at `indices`, int [M], in that order, copied."""
        coarse = None if self.coarse_labels is None else self.coarse_labels[indices]
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices], coarse_labels=coarse)

    def split(self, validation_fraction: float, seed: int) -> tuple["Dataset", "Dataset | None"]:
        """Carves a stratified validation set out of this one: of each class its share, to within one image.

        Args:
          validation_fraction: in [0, 1); of each class. 0 gives no validation set.
          seed: chooses the images; the same seed gives the same split, whatever else the run does.

        Returns:
          (train, validation or None), each in canonical order.

        Raises:
          UserError: the fraction is so small or so large that one side would be empty.
        """
        if validation_fraction == 0:
            return self, None
        rng = np.random.default_rng(seed)
        held_out = np.zeros(len(self), bool)
        for label in range(self.num_classes):
            rows = np.flatnonzero(self.labels == label)
            held_out[rng.permutation(rows)[: round(len(rows) * validation_fraction)]] = True
        if not 0 < held_out.sum() < len(self):
            raise ConfigError(
                f"config.data.validation_fraction: {validation_fraction} of {len(self)} images in {self.num_classes} classes "
                "leaves "
                f"{'none to train on' if held_out.all() else 'no validation image'}"
            )
        return self.take(np.flatnonzero(~held_out)), self.take(np.flatnonzero(held_out))


def checked_labels(where: str, labels: np.ndarray, rows: int, classes: int) -> np.ndarray:
    """The labels as int32 [rows].

    Args:
      where: what the labels are from, for the message.
      labels: any integers, [rows], in [0, classes).
      rows: how many there must be.
      classes: how many there are to choose from.

    Raises:
      UserError: they are something else.
    """
    if labels.shape != (rows,) or labels.dtype.kind not in "iu":
        raise UserError(f"{where}: labels are {labels.dtype} {labels.shape}, expected integers ({rows},)")
    if rows and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(f"{where}: labels go from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
    return labels.astype(np.int32)
