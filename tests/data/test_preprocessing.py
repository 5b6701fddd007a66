import dataclasses

import numpy as np
import pytest

from cifar_flax.config import Normalization
from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import dumps_checksummed


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2500, 4, 5, 3), dtype=np.uint8)
    images[..., 1] = 7
    labels = rng.integers(0, 6, 2500, dtype=np.int32)
    return Dataset(images, labels, tuple("abcdef"), labels // 2, ("x", "y", "z"))


def test_standardizing_gives_each_channel_mean_zero_and_deviation_one(dataset):
    preprocessing = Preprocessing.of(dataset, Normalization.STANDARDIZE, {})
    pixels = dataset.images / 255
    np.testing.assert_allclose(preprocessing.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(preprocessing.std, [pixels[..., 0].std(), 1, pixels[..., 2].std()], rtol=1e-12)
    normalised = np.asarray(preprocessing.normalize(dataset.images))
    np.testing.assert_allclose(normalised.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std((0, 1, 2)), [1, 0, 1], atol=1e-3)


def test_superclasses_are_those_of_all_splits_and_not_of_training_images_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path))
    names, coarse_names = ("a", "b", "c", "d"), ("x", "y", "z")

    def split(*labels):
        labels = np.array(labels, np.int32)
        return Dataset(np.zeros((len(labels), 4, 4, 3), np.uint8), labels, names, np.int32([2, 1, 2, 0])[labels], coarse_names)

    cache.write("mine", {"train": split(0, 0, 1), "test": split(1, 2)}, "tests")
    preprocessing = Preprocessing.of(cache.read("mine", "train"), Normalization.UNIT, {})
    assert [preprocessing.superclass(label) for label in range(4)] == ["z", "y", "z", None]
    preprocessing.write(tmp_path / "dataset.json")
    assert Preprocessing.read(tmp_path / "dataset.json") == preprocessing


def test_unit_leaves_pixels_between_zero_and_one(dataset):
    preprocessing = Preprocessing.of(dataset, Normalization.UNIT, {})
    np.testing.assert_array_equal(preprocessing.standardize(np.float32([[[[0, 0.5, 1]]]])), [[[[0, 0.5, 1]]]])
    np.testing.assert_allclose(preprocessing.normalize(np.uint8([[[[0, 51, 255]]]])), [[[[0, 0.2, 1]]]], rtol=1e-6)


def test_pixels_in_another_form_than_bytes_are_refused(dataset):
    with pytest.raises(TypeError, match="uint8"):
        Preprocessing.of(dataset, Normalization.UNIT, {}).normalize(np.zeros((1, 4, 5, 3), np.float32))


def test_it_knows_the_superclass_of_each_class_and_survives_the_file(dataset, tmp_path):
    preprocessing = Preprocessing.of(dataset, Normalization.STANDARDIZE, {"images": "0" * 64})
    assert preprocessing.coarse_of_fine == (0, 0, 1, 1, 2, 2)
    assert preprocessing.image_shape == (4, 5, 3)
    preprocessing.write(tmp_path / "dataset.json")
    assert Preprocessing.read(tmp_path / "dataset.json") == preprocessing


@pytest.mark.parametrize("content", ["", "{}", '{"mean": 3}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset\.json"):
        Preprocessing.read(tmp_path / "dataset.json")


def test_a_file_whose_class_names_steer_terminals_is_refused(dataset, tmp_path):
    values = dataclasses.asdict(Preprocessing.of(dataset, Normalization.UNIT, {}))
    values["class_names"] = ["\x1b]0;title\x07", *"bcdef"]
    (tmp_path / "dataset.json").write_text(dumps_checksummed(values))
    with pytest.raises(UserError, match="control characters"):
        Preprocessing.read(tmp_path / "dataset.json")
