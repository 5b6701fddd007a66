"""Training and validation images: the set's own splits, or a division of the training split."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from cifar_flax.config import DataConfig
from cifar_flax.data.dataset import Dataset, rows_by_class
from cifar_flax.data.loading import load_splits
from cifar_flax.errors import ConfigError

VALIDATION = "validation"


class TrainingData(NamedTuple):
    """Training and validation images, each in canonical order, and the hashes that a run on them records, of one moment."""

    train: Dataset
    validation: Dataset | None
    hashes: dict[str, str]
    test_hashes: dict[str, str]


def training_splits(data: DataConfig) -> TrainingData:
    """Loads the training split and divides it by `data.folds` or, without folds, by `data.validation_fraction`.

    A validation split that the set has of its own is taken as it is, in place of `data.validation_fraction` above 0.

    Raises:
      UserError: the data set cannot be loaded, or one part would be empty.
    """
    loaded = load_splits(data, lambda there: ["train", VALIDATION] if validates_with_own(data, there) else ["train"])
    train, validation = loaded.datasets["train"], loaded.datasets.get(VALIDATION)
    parts = divide(train, data) if validation is None else (train, validation)
    return TrainingData(*parts, loaded.recorded("train"), loaded.recorded("test"))


def validates_with_own(data: DataConfig, there: Collection[str]) -> bool:
    """Whether the validation images are a split of a data set that has the splits `there`, and no part of train."""
    return data.folds is None and data.validation_fraction > 0 and VALIDATION in there


def divide(dataset: Dataset, data: DataConfig) -> tuple[Dataset, Dataset | None]:
    """Divides a training split into (train, validation or None); raises as `training_splits`."""
    if data.folds is None:
        return dataset.split(data.validation_fraction, data.split_seed)
    if data.folds > len(dataset):
        raise ConfigError(f"config.data.folds: {data.folds} is more than the {len(dataset)} training images")
    held_out = assign_folds(dataset.labels, data.folds, data.split_seed) == data.fold
    return dataset.take(np.flatnonzero(~held_out)), dataset.take(np.flatnonzero(held_out))


def assign_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Assigns images to stratified folds: the shuffled images of each class go to the folds in turn, class after class.

    Args:
      labels: int [N].
      folds: at most N.
      seed: of the shuffle; the folds depend on nothing else.

    Returns:
      int [N], the fold of each image, in [0, folds). Sizes of folds differ by at most one image, in total and per class.
    """
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(rows) for rows in rows_by_class(labels)])
    fold_of_image = np.empty(len(labels), np.int64)
    fold_of_image[order] = np.arange(len(labels)) % folds
    return fold_of_image
