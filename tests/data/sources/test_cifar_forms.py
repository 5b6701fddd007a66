"""CIFAR as people have it: whatever form it is in, the same rows give the same hashes."""

import dataclasses
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cifar_flax.config import DataConfig
from cifar_flax.data import cache
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.sources import archives, cifar_content
from cifar_flax.errors import UserError
from tests.data.conftest import assert_same, planes, python_members, write_tar
from tests.helpers.hub_files import datasets_cache, hub_folder


def unpacked(path, members):
    """A folder with the members of an archive."""
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def keras_npz(path, splits):
    train, test = splits["train"], splits["test"]
    labels = {"y_train": train.labels[:, None].astype(np.int64), "y_test": test.labels[:, None].astype(np.uint8)}
    np.savez(path, x_train=train.images, x_test=test.images, **labels)
    return path


FORMS = {
    "folder of Python batches": lambda path, splits: unpacked(path, python_members(splits)),
    "the inner folder": lambda path, splits: unpacked(path, python_members(splits)) / "cifar-100-python",
    "zip with a folder": lambda path, splits: zipped(path.with_suffix(".zip"), python_members(splits)),
    "zip of Kaggle": lambda path, splits: zipped(path.with_suffix(".zip"), python_members(splits, folder=".")),
    "Parquet of the Hub": hub_folder,
    "cache of datasets": datasets_cache,
    "repacked tarball": lambda path, splits: write_tar(path.with_suffix(".tar.gz"), python_members(splits)),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_rows(form, tiny, tmp_path):
    path = FORMS[form](tmp_path / "data", tiny)
    assert_same(archives.read(path, "mine").splits, tiny)


def test_keras_arrays_have_classes_by_number(tiny, tmp_path):
    splits = archives.read(keras_npz(tmp_path / "a.npz", tiny), "mine").splits
    for split, dataset in splits.items():
        np.testing.assert_array_equal(dataset.images, tiny[split].images)
        np.testing.assert_array_equal([int(dataset.class_names[label]) for label in dataset.labels], tiny[split].labels)


def test_an_unpacked_cifar10(tiny, tmp_path):
    splits = archives.read(unpacked(tmp_path, cifar10_members(tiny)), "cifar10", allow_unverified=True).splits
    np.testing.assert_array_equal(splits["train"].images, tiny["train"].images)
    np.testing.assert_array_equal(splits["train"].labels, tiny["train"].labels % 10)
    assert splits["test"].class_names == tuple(f"class_{i}" for i in range(10))


def cifar10_members(splits, folder="cifar-10-batches-py"):
    """`splits` with ten classes, as the Python version of CIFAR-10."""
    parts = {f"data_batch_{i + 1}": splits["train"].take(np.arange(12 * i, 12 * i + 12)) for i in range(5)}
    parts["test_batch"] = splits["test"]
    batches = {name: {"data": planes(data.images), "labels": (data.labels % 10).tolist()} for name, data in parts.items()}
    batches["batches.meta"] = {"label_names": [f"class_{i}" for i in range(10)]}
    return {f"{folder}/{name}": pickle.dumps(content) for name, content in batches.items()}


@pytest.mark.parametrize("form", [unpacked, lambda path, members: zipped(path.with_suffix(".zip"), members)])
def test_of_both_sets_in_one_place_the_name_chooses(tiny, tmp_path, form):
    path = form(tmp_path / "data", {**python_members(tiny), **cifar10_members(tiny)})
    for name, classes in (("cifar10", 10), ("cifar100", 100)):
        assert archives.read(path, name, allow_unverified=True).splits["train"].num_classes == classes
    with pytest.raises(UserError) as error:
        archives.read(path, "mine")
    assert str(error.value) == f"{path}: has both cifar10 and cifar100; choose with --name=cifar10 or --name=cifar100"


def test_a_tarball_of_both_sets_is_to_be_unpacked(tiny, tmp_path):
    path = write_tar(tmp_path / "data.tar.gz", {**python_members(tiny), **cifar10_members(tiny)})
    with pytest.raises(UserError, match=r"has both cifar10 and cifar100; unpack it, and choose with --archive=FOLDER"):
        archives.read(path, "cifar100")


def test_a_set_that_is_there_twice_is_refused(tiny, tmp_path):
    path = unpacked(tmp_path, {**python_members(tiny), **python_members(tiny, "copy")})
    with pytest.raises(UserError, match=r"two copies of cifar100, '.*/cifar-100-python' and '.*/copy'; name one of them"):
        archives.read(path, "cifar100")


def test_the_folders_of_keras_3_are_found_from_the_one_around_them(tiny, tmp_path):
    unpacked(tmp_path / "cifar-10-batches-py-target", cifar10_members(tiny))
    unpacked(tmp_path / "cifar-100-python-target", python_members(tiny))
    for path in (tmp_path, tmp_path / "cifar-10-batches-py-target"):
        splits = archives.read(path, "cifar10", allow_unverified=True).splits
        np.testing.assert_array_equal(splits["train"].images, tiny["train"].images)


def test_an_official_archive_within_a_zip_file_or_a_folder_is_named(tiny, tmp_path):
    (tmp_path / "in").mkdir()
    tarball = write_tar(tmp_path / "in" / "cifar-100-python.tar.gz", python_members(tiny))
    path = zipped(tmp_path / "a.zip", {"download/cifar-100-python.tar.gz": tarball.read_bytes()})
    words = "has no pictures, but the archive 'cifar-100-python.tar.gz'"
    with pytest.raises(UserError, match=rf"^{path}: {words}; unpack the zip file, then import that with --archive=PATH$"):
        archives.read(path, "cifar100")
    with pytest.raises(UserError, match=rf"^{tarball.parent}: {words}; import that with --archive=PATH$"):
        archives.read(tarball.parent, "cifar100")


def test_official_rows_are_known_in_any_order_and_get_the_official_names(tiny, tmp_path, monkeypatch):
    """With two small sets in the place of CIFAR's."""
    official = {split: cifar_content.digest(dataset) for split, dataset in tiny.items()}
    monkeypatch.setitem(cifar_content.DIGESTS, "cifar100", official)
    monkeypatch.setattr(cifar_content, "ROWS", {split: len(dataset) for split, dataset in tiny.items()})
    shuffled = {split: dataset.take(np.random.default_rng(0).permutation(len(dataset))) for split, dataset in tiny.items()}
    misspelt = {split: dataclasses.replace(d, class_names=("cra", *d.class_names[1:])) for split, d in shuffled.items()}
    read = archives.read(hub_folder(tmp_path / "a", misspelt), "cifar100").splits
    np.testing.assert_array_equal(read["train"].images, shuffled["train"].images)
    assert (read["train"].class_names, read["test"].coarse_names) == cifar_content.NAMES["cifar100"]
    with pytest.raises(UserError, match="is cifar100, not cifar10: import it with --name=cifar100"):
        archives.read(tmp_path / "a", "cifar10", allow_unverified=True)
    images = shuffled["test"].images.copy()
    images[7, 3, 3, 1] ^= 1
    other = {**shuffled, "test": dataclasses.replace(shuffled["test"], images=images)}
    with pytest.raises(UserError, match=r"--name=cifar100: .* has other rows than the official archive; .* --allow_unverified"):
        archives.read(hub_folder(tmp_path / "b", other), "cifar100")


def test_superclasses_that_a_form_lacks_are_filled_in():
    fine = np.arange(100, dtype=np.int32)
    coarse = np.array(cifar_content.SUPERCLASS_OF.split(), np.int32)[fine]
    names, superclasses = cifar_content.NAMES["cifar100"]
    assert np.bincount(coarse).tolist() == [5] * 20
    members = {superclass: [names[i] for i in fine if superclasses[coarse[i]] == superclass] for superclass in superclasses}
    assert members["people"] == ["baby", "boy", "girl", "man", "woman"]  # of Krizhevsky's table
    assert members["vehicles_1"] == ["bicycle", "bus", "motorcycle", "pickup_truck", "train"]
    assert members["fish"] == ["aquarium_fish", "flatfish", "ray", "shark", "trout"]


REAL = ("the inner folder", "zip of Kaggle", "Parquet of the Hub")  # of each kind of reader one


@pytest.mark.slow
def test_the_real_cifar100_has_the_same_hashes_in_every_kind_of_form(tmp_path, monkeypatch, cifar100_cache):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", cifar100_cache)
    real = {split: load_dataset(DataConfig(name="cifar100"), split).in_memory() for split in ("train", "test")}
    expected = {split: cache.manifest("cifar100").hashes(split) for split in real}
    forms = {form: FORMS[form] for form in REAL} | {"Keras": lambda path, splits: keras_npz(path.with_suffix(".npz"), splits)}
    for form, make in forms.items():
        path: Path = make(tmp_path / form.replace(" ", "_"), real)
        read = archives.read(path, "cifar100")  # verified
        hashes = {s: {name: cache.hash_of(array) for name, array in d.arrays().items()} for s, d in read.splits.items()}
        assert hashes == expected, form
        assert read.splits["train"].class_names == real["train"].class_names
