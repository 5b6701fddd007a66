"""Division of the training split into training and validation images."""

import numpy as np

from cifar_flax.config import DataConfig
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.registry import load_dataset
from cifar_flax.errors import ConfigError, UserError

SPLITS = ("train", "validation", "test")


def training_splits(data: DataConfig) -> tuple[Dataset, Dataset | None]:
    """Loads the training split and divides it by `data.folds` or, without folds, by `data.validation_fraction`.

    Returns:
      (train, validation or None), each in canonical order.

    Raises:
      UserError: the data set cannot be loaded, or one part would be empty.
    """
    dataset = load_dataset(data, "train")
    if data.folds is None:
        return dataset.split(data.validation_fraction, data.split_seed)
    if data.folds > len(dataset):
        raise ConfigError(f"config.data.folds: {data.folds} is more than the {len(dataset)} training images")
    held_out = assign_folds(dataset.labels, data.folds, data.split_seed) == data.fold
    return dataset.take(np.flatnonzero(~held_out)), dataset.take(np.flatnonzero(held_out))


def load_split(data: DataConfig, split: str) -> Dataset:
    """Loads "train" (without the validation images), "validation" or "test" as a training on `data` has them.

    Raises:
      UserError: there is no such split, or the data are missing.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; expected one of {', '.join(SPLITS)}")
    if split == "test":
        return load_dataset(data, "test")
    train, validation = training_splits(data)
    chosen = train if split == "train" else validation
    if chosen is None:
        raise UserError("config.data.validation_fraction is 0: it trained on all images, and there is no validation split")
    return chosen.in_memory()


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
    order = np.concatenate([rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    fold_of_image = np.empty(len(labels), np.int64)
    fold_of_image[order] = np.arange(len(labels)) % folds
    return fold_of_image
