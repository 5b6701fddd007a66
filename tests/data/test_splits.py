import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from cifar_flax.config import DataConfig
from cifar_flax.data import splits
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.loading import Loaded
from cifar_flax.data.splits import assign_folds, training_splits
from cifar_flax.errors import UserError

LABELS = np.random.default_rng(1).permutation(np.repeat(np.arange(5), [7, 20, 31, 40, 53])).astype(np.int32)


@pytest.fixture
def loaded(monkeypatch):
    """Records the splits that are loaded, of a data set whose pixels are the row numbers."""
    loaded = []
    images = np.arange(len(LABELS), dtype=np.uint8).repeat(12).reshape(-1, 2, 2, 3)
    dataset = Dataset(images, LABELS, ("a", "b", "c", "d", "e"))

    def load(data, wanted):
        loaded.extend(chosen := wanted(["train", "test"]))
        return Loaded(dict.fromkeys(chosen, dataset), {})

    monkeypatch.setattr(splits, "load_splits", load)
    return loaded


def rows(part):
    return part.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("folds", [2, 3, 5, 7])
def test_folds_are_as_even_as_those_of_scikit_learn(folds):
    ours = assign_folds(LABELS, folds, seed=0)
    theirs = StratifiedKFold(folds, shuffle=True, random_state=0).split(LABELS, LABELS)
    sizes = [np.bincount(LABELS[held_out], minlength=5) for _, held_out in theirs]
    for label in range(5):
        counts = np.bincount(ours[label == LABELS], minlength=folds)
        assert sorted(counts) == sorted(size[label] for size in sizes)
    assert np.ptp(np.bincount(ours, minlength=folds)) <= 1


def test_folds_depend_on_their_seed_alone():
    first = assign_folds(LABELS, 5, seed=0)
    np.random.seed(3)  # the global state must not matter
    np.testing.assert_array_equal(assign_folds(LABELS, 5, seed=0), first)
    assert (assign_folds(LABELS, 5, seed=1) != first).any()


def test_each_image_is_held_out_by_one_fold(loaded):
    parts = [training_splits(DataConfig(folds=4, fold=fold, split_seed=3))[:2] for fold in range(4)]
    assert sorted(row for _, held_out in parts for row in rows(held_out)) == list(range(len(LABELS)))
    for train, held_out in parts:
        assert sorted(rows(train) + rows(held_out)) == list(range(len(LABELS)))
        for part in (train, held_out):
            assert rows(part) == sorted(rows(part))  # canonical order
            np.testing.assert_array_equal(part.labels, LABELS[rows(part)])
    assert set(loaded) == {"train"}


def test_without_folds_the_fraction_decides(loaded):
    train, validation, *_ = training_splits(DataConfig(validation_fraction=0.2))
    assert len(validation) == 1 + 4 + 6 + 8 + 11
    assert len(train) + len(validation) == len(LABELS)
    assert training_splits(DataConfig(validation_fraction=0))[1] is None


def test_more_folds_than_images_are_refused(loaded):
    with pytest.raises(UserError, match=r"config\.data\.folds: 152 is more than the 151 training images"):
        training_splits(DataConfig(folds=152))
