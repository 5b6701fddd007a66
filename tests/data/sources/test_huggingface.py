"""Tables of pictures: Parquet, the Arrow files of `datasets`, and sets of the Hugging Face Hub by their names."""

import dataclasses
import os
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from cifar_flax.config import DataConfig
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.sources import archives
from cifar_flax.errors import UserError
from tests.data.conftest import assert_same
from tests.helpers.hub_files import datasets_cache, hub_folder, png, table


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Puts splits on a Hub: a stand-in for the library, which there is no network for here. Returns what it is asked."""

    def put(splits):
        asked = []

        class Builder:
            cache_dir = str(datasets_cache(tmp_path / "hf", splits))
            info = SimpleNamespace(splits=dict.fromkeys(splits))

            def download_and_prepare(self):
                asked.append("prepared")

        class Library:
            @staticmethod
            def load_dataset_builder(name, config):
                asked.append((name, config))
                return Builder()

        monkeypatch.setitem(sys.modules, "datasets", Library)
        return asked

    return put


def test_splits_of_other_names_are_left_out_and_named(tiny, hub, caplog):
    hub({**tiny, "train_extra": tiny["test"], "unlabeled": tiny["test"]})
    read = load_dataset(DataConfig(name="hf:somebody/digits"), "train")
    np.testing.assert_array_equal(read.images, tiny["train"].images)
    assert caplog.messages == ["hf:somebody/digits: left out: what is called train_extra, unlabeled"]


def test_a_class_of_two_superclasses_is_one_line(tiny, hub):
    coarse = tiny["train"].coarse_labels.copy()
    coarse[np.flatnonzero(tiny["train"].labels == 3)[0]] += 1
    hub({**tiny, "train": dataclasses.replace(tiny["train"], coarse_labels=coarse)})
    with pytest.raises(UserError, match=r"^hf:somebody/mixed: images of the class .* are of several superclasses"):
        load_dataset(DataConfig(name="hf:somebody/mixed"), "train")


def test_a_set_of_the_hub_by_its_name(tiny, hub):
    asked = hub(tiny)
    read = load_dataset(DataConfig(name="hf:uoft-cs/cifar100:fine"), "train")
    np.testing.assert_array_equal(read.images, tiny["train"].images)
    assert asked == [("uoft-cs/cifar100", "fine"), "prepared"]
    load_dataset(DataConfig(name="hf:uoft-cs/cifar100:fine"), "test")
    assert len(asked) == 2  # the cache has it


def test_what_cannot_be_read_of_a_table_costs_one_line(tiny, tmp_path):
    def write(name, **columns):
        (tmp_path / name).mkdir()
        parquet.write_table(pa.table(columns), tmp_path / name / "train.parquet")
        return tmp_path / name

    picture = [png(tiny["train"].images[0])]
    with pytest.raises(UserError, match=r"has the columns a, b; expected pictures in one of img, image"):
        archives.read(write("columns", a=[1], b=[2]), "mine")
    with pytest.raises(UserError, match=r"train: the picture in row 0 cannot be read: "):
        archives.read(write("broken", img=[b"no picture"], label=[0]), "mine")
    with pytest.raises(UserError, match=r"train: a picture is no file within the table"):
        archives.read(write("paths", img=["a.png"], label=[0]), "mine")
    with pytest.raises(UserError, match=r"neither text nor whole numbers"):
        archives.read(write("floats", img=picture, label=[0.5]), "mine")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "train.parquet").write_bytes((tmp_path / "broken" / "train.parquet").read_bytes()[:50])
    with pytest.raises(UserError, match=r"train.parquet: damaged, or no Parquet file"):
        archives.read(tmp_path / "cut", "mine")
    (tmp_path / "cut" / "train.parquet").rename(tmp_path / "cut" / "part.parquet")
    with pytest.raises(UserError, match=r"part.parquet: neither its name nor that of its folder says which split"):
        archives.read(tmp_path / "cut", "mine")
    texts = archives.read(write("texts", img=picture * 3, label=["b", "a", "b"]), "mine").splits["train"]
    assert (texts.class_names, texts.labels.tolist()) == (("a", "b"), [1, 0, 1])


@pytest.fixture
def write_splits(tiny, tmp_path):
    """Writes a Parquet file for each split, of the labels given; without a column where there are none."""
    picture = png(tiny["train"].images[0])

    def write(**labels):
        for name, values in labels.items():
            columns = {"img": [picture] * 2} | ({} if values is None else {"label": values})
            parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        return tmp_path

    return write


@pytest.mark.parametrize(("train", "validation"), [("train", "val"), ("Training", "dev"), ("TRAIN", "Valid")])
def test_the_files_of_splits_may_be_called_as_the_folders_of_pictures(write_splits, train, validation):
    path = write_splits(**{train: [0, 1], validation: [1, 1], "Testing": [0, 0]})
    splits = archives.read(path, "mine").splits
    assert {split: data.labels.tolist() for split, data in splits.items()} == {
        "train": [0, 1],
        "validation": [1, 1],
        "test": [0, 0],
    }


def test_files_of_several_names_for_a_split_are_named(write_splits, caplog):
    parts = {f"train-0000{i}-of-00002": [0, 1] for i in range(2)}
    assert len(archives.read(write_splits(**parts, test=[0, 1]), "mine").splits["train"]) == 4
    assert not [message for message in caplog.messages if "several names" in message]
    path = write_splits(train_extra=[1, 0])
    assert len(archives.read(path, "mine").splits["train"]) == 6
    names = "train-00000-of-00002.parquet, train_extra.parquet"
    assert (
        f"{path}: the train split is made of files of several names, such as {names}; is each of them meant?" in caplog.messages
    )


def test_labels_that_are_lists_are_refused(write_splits):
    with pytest.raises(
        UserError, match=r"train.parquet: label has values of the type list<.*; expected a number or a text for"
    ):
        archives.read(write_splits(train=[[0, 1], [1]]), "mine")


@pytest.mark.parametrize("labels", [[-1, -1], [None, None], None])
def test_a_test_file_without_labels_is_left_out(write_splits, caplog, labels):
    path = write_splits(train=[0, 1], validation=[1, 0], test=labels)
    splits = archives.read(path, "mine").splits
    assert {split: data.labels.tolist() for split, data in splits.items()} == {"train": [0, 1], "test": [1, 0]}
    assert splits["train"].class_names == ("0", "1")
    assert f"{path}: left out: the test split, which has no labels" in caplog.messages


def test_files_with_some_labels_missing_are_refused(write_splits):
    with pytest.raises(UserError, match=r"label has the label -1, expected none below 0; remove the rows without a label"):
        archives.read(write_splits(train=[0, 1], test=[-1, 1]), "mine")
    with pytest.raises(UserError, match=r"validation.parquet: has the columns img; expected label among them"):
        archives.read(write_splits(train=[0, 1], validation=None), "mine")


def test_two_copies_of_a_set_are_not_taken_for_one(tiny, tmp_path):
    for version in ("0.0.0", "1.0.0"):
        hub_folder(tmp_path / version, tiny)
    with pytest.raises(UserError, match=r"has two copies of the set, .*0.0.0/cifar100 and .*1.0.0/cifar100; name one of them"):
        archives.read(tmp_path, "mine")
    assert len(archives.read(tmp_path / "1.0.0", "mine").splits["train"]) == 60


def test_sets_with_other_numbers_of_parts_are_not_taken_for_one(tiny, tmp_path):
    for folder, parts in (("full", 2), ("small", 1)):
        (tmp_path / folder).mkdir()
        for i in range(parts):
            parquet.write_table(table(tiny["train"]), tmp_path / folder / f"train-{i:05d}-of-{parts:05d}.parquet")
    with pytest.raises(UserError, match=r"has two copies of the set, .*full and .*small; name one of them"):
        archives.read(tmp_path, "mine")
    assert len(archives.read(tmp_path / "full", "mine").splits["train"]) == 120


def test_a_set_of_which_parts_are_missing_is_refused(write_splits):
    path = write_splits(**{f"train-0000{i}-of-00003": [0, 1] for i in (0, 2)}, test=[0, 1])
    with pytest.raises(UserError, match=r"has 2 of the 00003 parts of train\.parquet; download the others"):
        archives.read(path, "mine")
    write_splits(**{"train-00001-of-00003": [0, 1]})
    assert len(archives.read(path, "mine").splits["train"]) == 6


def test_a_table_that_unpacks_to_more_than_the_memory_is_refused_before(tmp_path, monkeypatch):
    parquet.write_table(pa.table({"img": [bytes(1 << 20)] * 8, "label": [0] * 8}), tmp_path / "train.parquet")
    assert (tmp_path / "train.parquet").stat().st_size < 1 << 19
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 1 << 20}[name])
    with pytest.raises(UserError, match=r"train.parquet: unpacks to .* bytes, more than the 524,288 that are allowed"):
        archives.read(tmp_path, "mine")


@pytest.mark.parametrize(
    "name", ["dog-{}.arrow", "dog-train-{}.arrow", "my_test-{}.arrow", "{}/0.arrow", "my_test/{}-set/0.arrow"]
)
def test_the_split_of_a_file_is_the_last_in_its_name_or_else_that_of_its_folder(tiny, tmp_path, name):
    for split, dataset in tiny.items():
        path = tmp_path / "sets" / name.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = table(dataset)
        with ipc.new_stream(path, rows.schema) as writer:
            writer.write_table(rows)
    assert_same(archives.read(tmp_path / "sets", "mine").splits, tiny)


def test_files_behind_a_link_to_their_folder_are_read(tiny, tmp_path):
    hub_folder(tmp_path / "elsewhere", tiny)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data").symlink_to(tmp_path / "elsewhere")
    assert_same(archives.read(tmp_path / "mine", "mine").splits, tiny)


def test_validation_rows_without_test_rows_are_the_test_split(tiny, tmp_path):
    read = archives.read(hub_folder(tmp_path, {"train": tiny["train"], "validation": tiny["test"]}), "mine").splits
    assert_same(read, tiny)
