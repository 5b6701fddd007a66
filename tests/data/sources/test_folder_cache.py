"""Folders and zip files in the cache: read once, and again where anything has changed."""

import os
import shutil

import pytest
from PIL import Image

from cifar_flax.config import DataConfig
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.sources import archives, folders
from cifar_flax.errors import UserError
from tests.helpers.picture_folders import fill, greys, save, write_table


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_pictures_that_are_added_while_others_are_read_are_there_next_time(tmp_path, monkeypatch, kind):
    for split in ("train", "test"):
        fill(tmp_path / "pets" / split, {"cat": 2, "dog": 2})
    path = tmp_path / "pets"

    def pack():
        return shutil.make_archive(str(path), "zip", path) if kind == "zip" else str(path)

    def read_slowly(*arguments, **options):
        splits = read(*arguments, **options)
        save(path / "train" / "cat" / "new.png", 200)
        pack()
        return splits

    read = folders.read
    data = DataConfig(name=f"folder:{pack()}")
    with monkeypatch.context() as patched:
        patched.setattr(folders, "read", read_slowly)
        assert greys(load_dataset(data, "train")) == [1, 2, 3, 4]
    assert greys(load_dataset(data, "train")) == [1, 2, 3, 4, 200]


def test_labels_that_two_folders_swap_are_read_again(tmp_path):
    """Of files with the same names, sizes and times."""
    for i, folder in enumerate("ab"):
        for name in ("0", "1"):
            path = tmp_path / "pets" / folder / f"{name}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (100 * i, 0, 0)).save(path)
            os.utime(path, (1e9, 1e9))
    data = DataConfig(name=f"folder:{tmp_path / 'pets'}", test_fraction=0.0)
    for labels in (("cat", "dog"), ("dog", "cat")):
        rows = [(f"{folder}/{name}.bmp", label) for folder, label in zip("ab", labels, strict=True) for name in "01"]
        write_table(tmp_path / "pets" / "labels.csv", ("file", "label"), *rows)
        train = load_dataset(data, "train")
        of_a = {train.class_names[label] for image, label in zip(train.images, train.labels, strict=True) if not image[0, 0, 0]}
        assert of_a == {labels[0]}


def test_a_folder_whose_path_is_not_utf8_is_read_once(tmp_path, monkeypatch):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    monkeypatch.chdir(os.fsdecode(folder))
    fill(tmp_path / os.fsdecode(b"caf\xe9"), {"train/cat": 2, "train/dog": 2, "test/cat": 1})
    data = DataConfig(name="folder:.")
    assert greys(load_dataset(data, "train")) == [1, 2, 3, 4]
    monkeypatch.setattr(folders, "read", None)  # the cache has it
    assert greys(load_dataset(data, "test")) == [5]


def test_images_of_all_splits_count_together_before_they_are_read(tmp_path, monkeypatch):
    for split in ("train", "val", "test"):
        fill(tmp_path / split, {"cat": 2, "dog": 2})
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 1 << 16}[name])
    with pytest.raises(UserError, match=r"unpacks to 36,864 bytes, more than the 32,768 that are allowed"):
        archives.read(tmp_path, "mine")


def test_a_file_in_place_of_a_folder_is_to_be_unpacked(tmp_path):
    (tmp_path / "pets.tar.gz").touch()
    with pytest.raises(UserError, match=r"pets.tar.gz: is no folder and no .zip file; unpack it if it is an archive, and name"):
        load_dataset(DataConfig(name=f"folder:{tmp_path / 'pets.tar.gz'}"), "train")
