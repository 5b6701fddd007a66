"""The two parts of the training split that a config asks for: what is trained on, and what is held out to choose by."""

import numpy as np

from cifar_flax.config import DataConfig
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.registry import load_dataset
from cifar_flax.errors import ConfigError


def training_splits(data: DataConfig) -> tuple[Dataset, Dataset | None]:
    """Loads the training split, never the test split, and parts it: one of `data.folds`, or `data.validation_fraction`.

    Returns:
      (train, validation or None), each in canonical order.

    Raises:
      UserError: the data are not here, or one part would be empty.
    """
    whole = load_dataset(data, "train")
    if data.folds is None:
        return whole.split(data.validation_fraction, data.split_seed)
    if data.folds > len(whole):
        raise ConfigError(f"config.data.folds: {data.folds} is more than the {len(whole)} training images")
    held_out = assign_folds(whole.labels, data.folds, data.split_seed) == data.fold
    return whole.take(np.flatnonzero(~held_out)), whole.take(np.flatnonzero(held_out))


def assign_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Parts images into stratified folds: the images of each class, shuffled, are dealt out, class after class.

    Args:
      labels: int [N].
      folds: at most N.
      seed: shuffles; the same seed gives the same folds, whatever else the run does.

    Returns:
      int [N], the fold of each image, in [0, folds). Folds differ by at most one image, in all and within each class.
    """
    rng = np.random.default_rng(seed)
    dealt = np.concatenate([rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    fold_of = np.empty(len(labels), np.int64)
    fold_of[dealt] = np.arange(len(labels)) % folds
    return fold_of
