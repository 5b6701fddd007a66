from dataclasses import replace

import numpy as np
import pytest

from cifar_flax.data.dataset import Dataset, check_splits, checked_labels, rows_by_class
from cifar_flax.errors import UserError
from cifar_flax.runtime import memory


def make(labels, classes):
    labels = np.asarray(labels, np.int32)
    images = np.arange(len(labels), dtype=np.uint8).repeat(12).reshape(-1, 2, 2, 3)
    return Dataset(images, labels, tuple(map(str, range(classes))), labels // 2, ("a", "b", "c"))


def row_numbers(data):
    return data.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 7])
def test_split_is_stratified_and_loses_nothing(fraction, seed):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(5), [10, 20, 30, 40, 50]))
    data = make(labels, 5)
    train, validation = data.split(fraction, seed)
    assert sorted(row_numbers(train) + row_numbers(validation)) == list(range(150))
    for part in (train, validation):
        rows = row_numbers(part)
        assert rows == sorted(rows)
        np.testing.assert_array_equal(part.labels, labels[rows])
        np.testing.assert_array_equal(part.coarse_labels, labels[rows] // 2)
        assert (part.class_names, part.coarse_names) == (data.class_names, data.coarse_names)
    for label, count in enumerate((10, 20, 30, 40, 50)):
        assert abs((validation.labels == label).sum() - fraction * count) < 1


@pytest.mark.parametrize("labels", [[], [3], [2, 0, 2, 5, 0, 0], np.random.default_rng(0).integers(0, 40, 500)])
def test_rows_by_class_are_those_that_hold_each_label(labels):
    labels = np.array(labels, np.int32)
    expected = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for actual, rows in zip(rows_by_class(labels), expected, strict=True):
        np.testing.assert_array_equal(actual, rows)


def test_split_depends_on_its_seed_alone():
    data = make(np.arange(150) % 5, 5)
    rows = [row_numbers(data.split(0.2, seed)[1]) for seed in (0, 0, 1)]
    np.random.seed(3)  # the global state must not matter
    assert rows[0] == rows[1] == row_numbers(data.split(0.2, 0)[1])
    assert rows[0] != rows[2]


def test_zero_trains_on_everything():
    data = make(np.arange(20) % 5, 5)
    train, validation = data.split(0, seed=0)
    assert train is data
    assert validation is None


def test_classes_all_of_whose_images_are_held_out_are_counted(caplog):
    data = make([0, 0, 0, 0, 1, 1, 1, 1, *[2] * 20], 4)
    data.split(0.8, seed=0)
    assert not caplog.messages
    for _ in range(2):  # for training, and for the evaluation of the validation images: it is said once
        data.split(0.9, seed=0)
    assert caplog.messages == ["0.9 of each class is held out, which leaves 2 of 4 classes no image to train on"]


@pytest.mark.parametrize(
    ("fraction", "remedy"), [(0.01, "no validation image; raise it, or 0 for none$"), (0.99, "none to train on; lower it$")]
)
def test_empty_sides_are_refused(fraction, remedy):
    with pytest.raises(UserError, match=rf"config\.data\.validation_fraction: .* leaves {remedy}"):
        make(np.arange(20) % 5, 5).split(fraction, seed=0)


def test_checked_labels():
    assert checked_labels("here", np.array([0, 2], np.uint8), 2, 3).dtype == np.int32
    for labels in (np.array([0, 3]), np.array([-1, 0]), np.array([0.0, 1.0]), np.array([0]), np.array([[0], [1]])):
        with pytest.raises(UserError, match="here: labels"):
            checked_labels("here", labels, 2, 3)


def test_a_class_of_two_superclasses_is_refused_in_one_split_and_across_splits():
    mixed = replace(make([0, 1, 2], 3), coarse_labels=np.int32([0, 0, 1]))
    other = replace(mixed, coarse_labels=np.int32([0, 1, 1]))
    check_splits({"train": mixed})
    with pytest.raises(ValueError, match="the class 1 are of several superclasses"):
        check_splits({"train": mixed, "test": other})
    with pytest.raises(ValueError, match="the class 0 are of several superclasses"):
        check_splits({"train": replace(mixed, labels=np.int32([0, 0, 0]))})


def test_arrays_take_up_to_half_the_memory_of_a_container(tmp_path, monkeypatch):
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "memory.max").write_text("1000\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "MOUNT", tmp_path)
    memory.check_allocation("a.npz", 500)
    with pytest.raises(UserError, match=r"^a.npz: unpacks to 501 bytes, more than the 500 that are allowed$"):
        memory.check_allocation("a.npz", 501)
