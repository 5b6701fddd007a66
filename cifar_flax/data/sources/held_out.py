"""Test splits of sets that have none, or one without labels; a line says so."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cifar_flax.data.dataset import Dataset, warn_once

TEST_FRACTION = 0.2  # of a set without splits
TEST_SEED = 0


def with_test_split(path: Path, dataset: Dataset, fraction: float) -> dict[str, Dataset]:
    """Divides a data set without splits into train and test, stratified, by `TEST_SEED`, and says so."""
    held_out = [round(int(count) * fraction) for count in np.bincount(dataset.labels)]
    if not 0 < sum(held_out) < len(dataset):
        if fraction:
            warn_once("%s: has no test split, and too few pictures to hold out %g of each class", path, fraction)
        return {"train": dataset}
    train, test = dataset.split(fraction, TEST_SEED)
    assert test is not None  # nosec B101 # for the type checker: some pictures are held out
    share = f"{len(test)} of {len(dataset)} pictures, {fraction:g} of each class, are it"
    without = f"; classes too small to have a picture in it: {held_out.count(0)} of {len(held_out)}" * (0 in held_out)
    warn_once("%s: has no test split; %s%s", path, share, without)
    return {"train": train, "test": test}


def warn_of_unlabelled_test_split(name: Path | str) -> None:
    """Says that a test split is left out."""
    warn_once("%s: left out: the test split, which has no labels", name)


def warn_of_no_test_split(name: Path | str, splits: Mapping[str, Dataset]) -> None:
    """Says where there is no test split."""
    if "test" not in splits:
        warn_once("%s: has no test split, which is what evaluate scores if it is not told otherwise", name)


def as_test_split(name: Path | str, splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Renames "validation" to "test" where there is no test split, with a warning."""
    if "validation" not in splits or "test" in splits:
        return splits
    warn_once("%s: has no test split; its validation pictures are it, and training validates with some of train", name)
    return {"test" if split == "validation" else split: dataset for split, dataset in splits.items()}
