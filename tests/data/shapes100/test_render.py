import numpy as np
import pytest

from cifar_flax.data.shapes100 import render
from cifar_flax.errors import UserError


@pytest.fixture(scope="module")
def train():
    return render.generate("train")


@pytest.fixture(scope="module")
def test():
    return render.generate("test")


def nearest_neighbour_accuracy(train_images, train_labels, images, labels):
    neighbours, queries = (np.reshape(x, (len(x), -1)).astype(np.float32) / 255 for x in (train_images, images))
    squared_distances = (neighbours**2).sum(1) - 2 * queries @ neighbours.T  # less the term that is the same for all neighbours
    return np.mean(train_labels[squared_distances.argmin(1)] == labels)


def test_has_as_many_images_of_each_class_as_documented(train, test):
    for split, per_class in ((train, 250), (test, 50)):
        assert split.images.shape == (100 * per_class, 32, 32, 3)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == split.coarse_labels.dtype == np.int32
        assert np.array_equal(np.bincount(split.labels), np.full(100, per_class))


def test_has_twenty_superclasses_of_five_classes(train, test):
    assert len(set(train.class_names)) == train.num_classes == 100
    assert len(set(train.coarse_names)) == len(train.coarse_names) == 20
    pairs = set(zip(train.labels.tolist(), train.coarse_labels.tolist(), strict=True))
    assert len(pairs) == 100, "a class lies in several superclasses"
    assert np.array_equal(np.bincount([coarse for _, coarse in pairs]), np.full(20, 5))
    assert (test.class_names, test.coarse_names) == (train.class_names, train.coarse_names)
    assert pairs == set(zip(test.labels.tolist(), test.coarse_labels.tolist(), strict=True))


@pytest.mark.parametrize(("name", "superclass"), [("pentagon", "polygons"), ("letter H", "letters"), ("smiling face", "faces")])
def test_labels_lead_to_the_names_a_reader_expects(test, name, superclass):
    rows = test.labels == test.class_names.index(name)
    assert {test.coarse_names[label] for label in test.coarse_labels[rows]} == {superclass}


def test_same_seed_gives_the_same_pictures(test):
    again = render.generate("test", seed=0)
    assert np.array_equal(again.images, test.images)
    assert np.array_equal(again.labels, test.labels)


def test_no_picture_occurs_twice_in_either_split_or_under_another_seed(train, test):
    splits = train, test, render.generate("test", seed=1)
    pictures = [picture.tobytes() for split in splits for picture in split.images]
    assert len(set(pictures)) == sum(map(len, splits))


def test_pixels_alone_do_not_give_the_class_away(train, test):
    accuracy = nearest_neighbour_accuracy(train.images, train.labels, test.images[:500], test.labels[:500])
    assert 0.01 < accuracy < 0.2


def test_mean_color_does_not_give_the_class_away(train, test):
    means = [split.images.reshape(len(split), -1, 3).mean(1) for split in (train, test)]
    assert nearest_neighbour_accuracy(means[0], train.labels, means[1], test.labels) < 0.05


def test_unknown_split_is_refused_with_the_names_of_those_there_are():
    with pytest.raises(UserError, match="train and test"):
        render.generate("validation")
