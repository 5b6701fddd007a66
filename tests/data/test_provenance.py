import dataclasses
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from cifar_flax.config import DataConfig, Normalization
from cifar_flax.data import cache, provenance
from cifar_flax.data.dataset import Dataset, RowView
from cifar_flax.data.loading import data_identity, load_dataset
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.provenance import load_as_trained
from cifar_flax.errors import UserError
from tests.data.conftest import data_hashes


def record(config):
    """What a run that is trained now records of its data."""
    train = load_dataset(config, "train")
    train_hashes, test_hashes = (data_hashes(config, split) for split in ("train", "test"))
    return Preprocessing.of(train, Normalization.UNIT, train_hashes, test_hashes, data_identity(config))


@pytest.fixture
def pets(tmp_path):
    """A folder of pictures, 10 and 4 of each class, and the config of a run on it."""
    root = tmp_path / "pets"
    for split, count in (("train", 10), ("test", 4)):
        for k, name in enumerate(("cat", "dog", "eel")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (60 * k, i, 0)).save(root / split / name / f"{i}.png")
    return root, DataConfig(name=f"folder:{root}", image_size=8, validation_fraction=0.2)


def refused(config, recorded, split, *words):
    with pytest.raises(UserError) as error:
        load_as_trained(config, recorded, split, "runs/pets")
    message = str(error.value)
    assert message.endswith("Nothing was scored.")
    assert "\n" not in message
    for word in ("runs/pets", *words):
        assert word in message


def test_unchanged_data_are_what_the_run_had(pets):
    _, config = pets
    recorded = record(config)
    sizes = {split: len(load_as_trained(config, recorded, split, "x")) for split in ("train", "validation", "test")}
    assert sizes == {"train": 24, "validation": 6, "test": 12}


def test_images_of_a_large_set_are_read_when_they_are_asked_for(pets, monkeypatch):
    _, config = pets
    recorded = record(config)
    read = load_as_trained(config, recorded, "validation", "x").images
    monkeypatch.setattr(provenance, "READ_BYTES", 0)
    view = load_as_trained(config, recorded, "validation", "x").images
    assert (type(read), type(view)) == (np.ndarray, RowView)
    np.testing.assert_array_equal(view, read)


def test_a_renamed_class_is_refused_with_both_lists(pets):
    root, config = pets
    recorded = record(config)
    for split in ("train", "test"):
        (root / split / "cat").rename(root / split / "zebra")
    for split in ("train", "validation", "test"):
        refused(config, recorded, split, "has the classes dog, eel, zebra", "was trained on cat, dog, eel")


def test_an_added_class_is_refused(pets):
    root, config = pets
    recorded = record(config)
    shutil.copytree(root / "train" / "dog", root / "train" / "ant")
    refused(config, recorded, "test", "has the classes ant, cat, dog, eel")


def test_of_many_classes_those_are_named_that_differ():
    names = tuple(f"class {i:03}" for i in range(100))
    images = np.zeros((100, 8, 8, 3), np.uint8)
    cache.write("mine", {"train": Dataset(images, np.arange(100, dtype=np.int32), names)}, "tests")
    config = DataConfig(name="mine")
    recorded = record(config)
    changed = dataclasses.replace(load_dataset(config, "train").in_memory(), class_names=(*names[:99], "new"))
    cache.write("mine", {"train": changed}, "tests")
    refused(config, recorded, "train", "the classes new, ", "(100 in all); runs/pets was trained on class 099, ")


def test_pictures_added_to_train_spoil_validation_but_not_test(pets):
    root, config = pets
    recorded = record(config)
    shutil.copy(root / "train" / "cat" / "1.png", root / "train" / "cat" / "new.png")
    refused(config, recorded, "validation", "the training images have changed", "cannot be told")
    refused(config, recorded, "train", "the training images have changed")
    assert len(load_as_trained(config, recorded, "test", "x")) == 12


def test_other_test_pictures_are_refused_where_the_run_knew_them(pets):
    root, config = pets
    recorded = record(config)
    (root / "test" / "cat" / "0.png").unlink()
    refused(config, recorded, "test", "the test images have changed")
    assert len(load_as_trained(config, dataclasses.replace(recorded, test_hashes={}), "test", "x")) == 11


def test_classes_in_another_order_are_brought_into_the_runs():
    rng = np.random.default_rng(0)
    names, coarse_names = ("a", "b", "c"), ("low", "high")

    def write(order, coarse_order):
        """The same images, imported with the classes in another order."""
        place, coarse_place = np.argsort(order), np.argsort(coarse_order)
        splits = {}
        for split, images, labels in (("train", x, y), ("test", xt, yt)):
            coarse = (labels > 0).astype(int)
            class_names = tuple(names[k] for k in order), tuple(coarse_names[k] for k in coarse_order)
            splits[split] = Dataset(
                images, place[labels].astype(np.int32), class_names[0], coarse_place[coarse].astype(np.int32), class_names[1]
            )
        cache.write("mine", splits, "tests")

    x, y = rng.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8), np.arange(30) % 3
    xt, yt = rng.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8), np.arange(9) % 3
    config = DataConfig(name="mine", validation_fraction=0.2)
    write([0, 1, 2], [0, 1])
    recorded = record(config)
    expected = {split: load_as_trained(config, recorded, split, "x").in_memory() for split in ("train", "validation", "test")}
    write([2, 0, 1], [1, 0])
    for split, before in expected.items():
        after = load_as_trained(config, recorded, split, "x")
        assert (after.class_names, after.coarse_names) == (names, coarse_names)
        np.testing.assert_array_equal(after.images, before.images)
        np.testing.assert_array_equal(after.labels, before.labels)
        np.testing.assert_array_equal(after.coarse_labels, before.coarse_labels)
    y = y[::-1]
    write([2, 0, 1], [1, 0])
    refused(config, recorded, "validation", "have changed")


def test_images_of_another_shape_are_refused(pets):
    _, config = pets
    recorded = record(config)
    refused(dataclasses.replace(config, image_size=16), recorded, "test", "16 x 16 x 3 pixels", "trained on 8 x 8 x 3")


def test_a_function_of_another_file_is_named_with_both_files(pets):
    _, config = pets
    recorded = dataclasses.replace(record(config), source="/home/me/my_pets.py:pets", hashes={"images": "0" * 64})
    refused(config, recorded, "validation", "(it was /home/me/my_pets.py:pets)")
    recorded = dataclasses.replace(recorded, source="pets\n\x1b[2J")
    refused(config, recorded, "validation", "(it was pets\\n\\x1b[2J)")


def test_no_such_split_is_refused(pets):
    _, config = pets
    with pytest.raises(UserError, match=re.escape("no split 'val'; expected one of train, validation, test")):
        load_as_trained(config, record(config), "val", "x")
