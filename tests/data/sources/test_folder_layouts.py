"""Own pictures as people have them: without splits, with splits of other names, with a table, or in a zip file."""

import csv
import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from cifar_flax.config import DataConfig
from cifar_flax.config.serialize import validated
from cifar_flax.data import cache
from cifar_flax.data.registry import load_dataset
from cifar_flax.data.sources import archives
from cifar_flax.data.splits import training_splits
from cifar_flax.errors import UserError
from cifar_flax.run import Run
from cifar_flax.training.loop import train


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, value, value)).save(path)


def fill(folder, counts, first=0):
    """Pictures of classes, each of another grey."""
    for name, count in counts.items():
        for i in range(count):
            save(folder / name / f"{i:02}.png", first := first + 1)
    return folder


def greys(dataset):
    return sorted(dataset.images[:, 0, 0, 0].tolist())


def read(path, **options):
    return archives.read(path, "mine", **options).splits


def write_table(path, *rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def test_a_folder_without_splits_has_a_stratified_test_split(tmp_path, caplog):
    splits = read(fill(tmp_path, {"cat": 10, "dog": 20, "eel": 5}))
    train, test = splits["train"], splits["test"]
    assert train.class_names == test.class_names == ("cat", "dog", "eel")
    assert np.bincount(train.labels).tolist() == [8, 16, 4]
    assert np.bincount(test.labels).tolist() == [2, 4, 1]
    assert sorted(greys(train) + greys(test)) == list(range(1, 36))
    assert f"{tmp_path}: has no test split; 7 of 35 pictures, 0.2 of each class, are it" in caplog.messages
    assert greys(read(tmp_path)["test"]) == greys(test)
    assert np.bincount(read(tmp_path, test_fraction=0.5)["test"].labels).tolist() == [5, 10, 2]
    assert list(read(tmp_path, test_fraction=0)) == ["train"]


def test_its_share_is_a_field_and_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    data = DataConfig(name=f"folder:{fill(tmp_path / 'a', {'cat': 10, 'dog': 10})}")
    assert len(load_dataset(data, "test")) == 4
    data.test_fraction = 0.3
    assert len(load_dataset(data, "test")) == 6
    (manifest,) = (tmp_path / "cache").rglob("manifest.json")
    assert "test 0.3 by seed 0 where undivided" in json.loads(manifest.read_text())["source"]


def test_pictures_so_few_that_none_can_be_held_out_are_all_trained_on(tmp_path, caplog):
    assert list(read(fill(tmp_path, {"cat": 1, "dog": 2}))) == ["train"]
    assert f"{tmp_path}: has no test split, and too few pictures to hold out 0.2 of each class" in caplog.messages


def test_classes_too_small_to_have_a_test_picture_are_counted(tmp_path, caplog):
    test = read(fill(tmp_path, {"cat": 10, "dog": 1, "eel": 2}))["test"]
    assert test.labels.tolist() == [0, 0]
    (line,) = [line for line in caplog.messages if "has no test split" in line]
    assert line.endswith("2 of 13 pictures, 0.2 of each class, are it; classes too small to have a picture in it: 2 of 3")


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("TRAIN", "Test"), ("train", "val"), ("training", "valid")]
)
def test_splits_of_other_names(tmp_path, train, test):
    fill(tmp_path / train, {"cat": 3, "dog": 2})
    fill(tmp_path / test, {"dog": 2}, first=50)
    splits = read(tmp_path)
    assert list(splits) == ["train", "test"]
    assert greys(splits["train"]) == [1, 2, 3, 4, 5]
    assert (greys(splits["test"]), splits["test"].labels.tolist()) == ([51, 52], [1, 1])


def test_validation_pictures_of_ones_own(tmp_path):
    for split, first in {"train": 0, "val": 50, "test": 100}.items():
        fill(tmp_path / split, {"cat": 2, "dog": 2}, first)
    splits = read(tmp_path)
    assert {split: greys(data) for split, data in splits.items()} == {
        "train": [1, 2, 3, 4],
        "validation": [51, 52, 53, 54],
        "test": [101, 102, 103, 104],
    }


def test_two_folders_of_one_split_are_refused(tmp_path):
    for name in ("val", "validation", "train"):
        fill(tmp_path / name, {"cat": 1})
    with pytest.raises(UserError, match="val/ and validation/ are both of the validation split; merge them"):
        read(tmp_path)


def test_a_class_may_be_called_like_a_split(tmp_path):
    """As trains are in CIFAR-100."""
    splits = read(fill(tmp_path, {"bus": 5, "car": 5, "train": 5}))
    assert splits["test"].class_names == ("bus", "car", "train")
    assert np.bincount(splits["train"].labels).tolist() == [4, 4, 4]


def test_splits_without_classes_are_no_classes(tmp_path):
    with pytest.raises(UserError, match="expected pictures in"):
        read(fill(tmp_path, {"train": 5, "test": 5}))


def test_a_folder_of_folders_of_classes_is_no_layout(tmp_path):
    fill(tmp_path / "more" / "deep", {"cat": 3})
    fill(tmp_path / "other" / "deep", {"dog": 2})
    with pytest.raises(UserError, match=r"5 pictures lie further down than .*/CLASS/; move them up into one folder for each"):
        read(tmp_path)


def test_pictures_below_the_folders_of_classes_are_to_be_moved_up(tmp_path):
    fill(tmp_path, {"cat/indoors": 2, "dog/outdoors": 1})
    with pytest.raises(UserError, match=rf"{tmp_path}: 3 pictures lie further down than {tmp_path}/CLASS/; move them up"):
        read(tmp_path)


@pytest.mark.parametrize("layout", ["classes", "splits", "table"])
def test_folders_around_the_layout_are_passed_through(tmp_path, layout):
    inner = tmp_path / "archive" / "pets"
    fill(inner / {"classes": "", "splits": "train", "table": "images"}[layout], {"cat": 2, "dog": 2})
    if layout == "table":
        write_table(inner / "labels.csv", ("file", "label"), ("images/cat/00.png", "cat"), ("images/dog/00.png", "dog"))
    for beside in ("README.txt", ".DS_Store", "__MACOSX/._archive"):
        (tmp_path / beside).parent.mkdir(exist_ok=True)
        (tmp_path / beside).write_bytes(b"litter")
    assert read(tmp_path)["train"].class_names == ("cat", "dog")


def test_one_folder_of_pictures_is_a_class_and_no_folder_around_a_layout(tmp_path):
    fill(tmp_path, {"cat": 2, "cat/more": 1})
    assert read(tmp_path)["train"].class_names == ("cat",)


@pytest.mark.parametrize(
    "header", [("file", "label"), ("Image ID", "Breed"), ("label", "name"), ("a", "b"), ("filename", "class")]
)
@pytest.mark.parametrize("how", ["path", "name", "stem", "dotted"])
def test_labels_in_a_table(tmp_path, header, how):
    fill(tmp_path, {"images": 10})
    names = {"path": "images/{:02}.png", "name": "{:02}.png", "stem": "{:02}", "dotted": "./images/{:02}.png"}
    rows = [(names[how].format(i), "dog" if i % 2 else "cat") for i in range(10)]
    turned = header == ("label", "name")
    write_table(tmp_path / "labels.csv", header, *(row[::-1] if turned else row for row in rows))
    splits = read(tmp_path)
    assert splits["train"].class_names == ("cat", "dog")
    for data in splits.values():
        for image, label in zip(data.images, data.labels, strict=True):
            assert (image[0, 0, 0] - 1) % 2 == label
    assert {split: len(data) for split, data in splits.items()} == {"train": 8, "test": 2}


def test_a_table_with_a_column_of_splits(tmp_path):
    fill(tmp_path, {"images": 4})
    write_table(
        tmp_path / "all.csv",
        ("path", "class", "split"),
        *((f"images/{i:02}.png", "cat", split) for i, split in enumerate(("train", "val", "TEST", "Training"))),
        delimiter=";",
    )
    assert {split: greys(data) for split, data in read(tmp_path).items()} == {"train": [1, 4], "validation": [2], "test": [3]}


def test_a_table_a_split(tmp_path, caplog):
    fill(tmp_path, {"train": 3})
    fill(tmp_path, {"test": 2}, first=50)
    write_table(tmp_path / "train.csv", ("id", "label"), ("00", "cat"), ("01", "dog"), ("02", "cat"))
    write_table(tmp_path / "test.csv", ("id", "label"), ("01", "dog"), ("00", "cat"))
    splits = read(tmp_path)
    assert (greys(splits["train"]), splits["train"].labels.tolist()) == ([1, 2, 3], [0, 0, 1])
    assert (greys(splits["test"]), splits["test"].labels.tolist()) == ([51, 52], [0, 1])


def test_kaggles_cifar10(tmp_path, caplog):
    """trainLabels.csv beside train/ and test/, whose pictures have the same names, and no labels for test."""
    fill(tmp_path, {"train": 10})
    fill(tmp_path, {"test": 3}, first=50)
    write_table(tmp_path / "trainLabels.csv", ("id", "label"), *((f"{i:02}", "frog" if i < 5 else "truck") for i in range(10)))
    write_table(tmp_path / "sampleSubmission.csv", ("id", "label"), *((f"{i:02}", "cat") for i in range(3)))
    write_table(tmp_path / "notes.csv", ("who", "when", "what"), ("me", "today", "nothing"))
    splits = read(tmp_path)
    assert sorted(greys(splits["train"]) + greys(splits["test"])) == list(range(1, 11))
    (line,) = [line for line in caplog.messages if "left out" in line]
    assert line == (
        f"{tmp_path}: left out: notes.csv (no column of labels), sampleSubmission.csv (a form for submissions), "
        "3 pictures that no table names"
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("file", "label"), ("gone.png", "cat")], r"line 2: there is no picture 'gone.png'; expected a picture below"),
        ([("file", "label"), ("00.png", "cat"), ("00", "cat")], r"line 3: '00' is named a second time, after .*line 2"),
        ([("file", "label"), ("00.png",)], r"line 2: has 1 columns, fewer than the header"),
        ([("file", "label", "split"), ("00.png", "cat", "x")], r"line 2: the split 'x'; expected train, validation or test"),
        ([("file", "label"), ("00.png", "\x1b[2J")], "control characters"),
        ([("file", "label"), ("00.png", "cat"), (), ("01.png", " ")], r"line 4: the label is empty; expected the name of a"),
        ([("01.png", "cat"), ("gone.png", "dog")], r"line 2: there is no picture 'gone.png'"),
        ([("gone.png", "cat"), ("01.png", "dog")], r"line 1: there is no picture 'gone.png'"),
        (
            [("01.png", "cat", "me"), ("02.png", "dog", "me")],
            r"has the columns '01.png', 'cat', 'me'; expected pictures in one",
        ),
        ([("file", "label")], r"labels.csv: has a single row; expected a header, and a row for each picture"),
        ([], r"labels.csv: is empty; expected pictures in one of file, "),
        ([("file", "label"), ("../../etc/passwd", "cat")], r"there is no picture '../../etc/passwd'"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path, rows, words):
    fill(tmp_path, {"images": 2})
    write_table(tmp_path / "labels.csv", *rows)
    with pytest.raises(UserError, match=words):
        read(tmp_path)


@pytest.mark.parametrize("name", ["labels.csv", "LABELS.CSV", "labels.tsv"])
@pytest.mark.parametrize("header", [("picture_file", "kind", "author"), ("image", "cat", "dog")])
@pytest.mark.parametrize("folder", ["images", "train/images"])
def test_a_table_of_other_columns_beside_one_class_is_refused(tmp_path, name, header, folder):
    fill(tmp_path, {folder: 2})
    write_table(tmp_path / name, header, ("00.png", "0", "1"), ("01.png", "1", "0"))
    columns = ", ".join(map(repr, header))
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / name}: has the columns {columns}; expected pictures in one of file, ")
    assert ", and classes in one of label, " in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_of_other_columns_beside_pictures_without_classes_is_refused(tmp_path):
    fill(tmp_path, {"train": 2, "test": 2})
    write_table(tmp_path / "train.csv", ("image", "cat", "dog"), ("00.png", "0", "1"))
    with pytest.raises(UserError, match=r"train.csv: has the columns 'image', 'cat', 'dog'; expected pictures in"):
        read(tmp_path)


def test_a_table_beside_the_pictures_of_one_class_is_refused_there(tmp_path):
    fill(tmp_path, {"images": 2, "documents": 0})
    (tmp_path / "documents").mkdir()
    write_table(tmp_path / "images" / "labels.csv", ("file", "label"), ("00.png", "cat"), ("01.png", "dog"))
    with pytest.raises(UserError, match=rf"images/labels.csv: is not read there; move it to {tmp_path}/images.csv"):
        read(tmp_path)


@pytest.mark.parametrize("layout", ["", "train"])
def test_tables_beside_folders_of_several_classes_are_named_and_left_out(tmp_path, caplog, layout):
    fill(tmp_path / layout, {"cat": 5, "dog": 5})
    write_table(tmp_path / "notes.csv", ("who", "when", "what"), ("me", "today", "nothing"))
    write_table(tmp_path / "people.csv", ("name", "email"), ("me", "me@here"))
    write_table(tmp_path / "credits.csv", ("name", "category", "licence"), ("Anna", "cats", "CC0"))
    write_table(tmp_path / "labels.csv", ("file", "label"))
    write_table(tmp_path / "sample_submission.csv", ("id", "label"), ("00", "cat"))
    assert read(tmp_path)["train"].class_names == ("cat", "dog")
    (line,) = [line for line in caplog.messages if "left out" in line]
    assert all(
        name in line for name in ("notes.csv (", "people.csv (", "credits.csv (", "labels.csv (", "sample_submission.csv (")
    )


@pytest.mark.parametrize("name", ["LABELS.CSV", "labels.tsv", "Labels.Tsv"])
def test_a_table_may_have_another_suffix(tmp_path, name):
    fill(tmp_path, {"images": 10})
    rows = [(f"{i:02}.png", "dog" if i % 2 else "cat") for i in range(10)]
    write_table(tmp_path / name, ("file", "label"), *rows, delimiter="\t" if "t" in name[-3:].lower() else ",")
    (tmp_path / "._labels.csv").write_bytes(b"\xff\xfe")  # of macOS
    assert read(tmp_path)["train"].class_names == ("cat", "dog")


def test_a_table_names_the_classes_where_the_folders_name_one(tmp_path):
    fill(tmp_path, {"train/images": 2})
    write_table(tmp_path / "train.csv", ("file", "label"), ("00.png", "cat"), ("01.png", "dog"))
    assert read(tmp_path, test_fraction=0)["train"].class_names == ("cat", "dog")


def test_a_table_without_labels_beside_one_that_has_them_names_no_classes(tmp_path, caplog):
    fill(tmp_path, {"train": 2, "test": 2})
    write_table(tmp_path / "train.csv", ("id", "width", "label"), ("00", "40", "cat"), ("01", "50", "dog"))
    write_table(tmp_path / "test.csv", ("id", "width"), ("00", "40"), ("01", "50"))
    assert read(tmp_path, test_fraction=0)["train"].class_names == ("cat", "dog")
    assert any("test.csv (no column of labels)" in line for line in caplog.messages)


def test_a_table_without_a_header_is_read_whole(tmp_path):
    fill(tmp_path, {"images": 3})
    write_table(tmp_path / "labels.csv", ("00", "cat"), ("01", "dog"), ("02.png", "dog"))
    train = read(tmp_path, test_fraction=0)["train"]
    assert (greys(train), train.labels.tolist()) == ([1, 2, 3], [0, 1, 1])


@pytest.mark.parametrize("name", ["{root}/images/{i:02}.png", "images\\{i:02}.png", ".\\images\\{i:02}.png"])
def test_a_table_names_pictures_by_absolute_paths_or_with_backslashes(tmp_path, name):
    fill(tmp_path, {"images": 2})
    rows = [(name.format(root=tmp_path, i=i), label) for i, label in enumerate(("cat", "dog"))]
    write_table(tmp_path / "labels.csv", ("file", "label"), *rows)
    assert read(tmp_path, test_fraction=0)["train"].labels.tolist() == [0, 1]


def test_a_table_that_is_no_text_is_refused(tmp_path):
    fill(tmp_path, {"images": 2})
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\xfe,cat\n")
    with pytest.raises(UserError, match=r"labels.csv: no CSV file in UTF-8"):
        read(tmp_path)


@pytest.mark.parametrize("inner", ["", "pets"])
@pytest.mark.parametrize("layout", ["splits", "classes", "table"])
def test_a_zip_file_of_any_of_these(tmp_path, monkeypatch, inner, layout):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "unpacked" / inner
    if layout == "splits":
        fill(root / "train", {"cat": 4, "dog": 4})
        fill(root / "test", {"cat": 1, "dog": 1}, first=50)
    elif layout == "classes":
        fill(root, {"cat": 5, "dog": 5})
    else:
        fill(root, {"images": 10})
        write_table(root / "labels.csv", ("file", "label"), *((f"{i:02}.png", "cat" if i < 5 else "dog") for i in range(10)))
    path = shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path / "unpacked")
    expected, imported = read(root), read(tmp_path / "pets.zip")
    for split, data in expected.items():
        np.testing.assert_array_equal(imported[split].images, data.images)
        assert imported[split].class_names == ("cat", "dog")
        trained_on = load_dataset(DataConfig(name=f"folder:{path}"), split)
        np.testing.assert_array_equal(trained_on.images, data.images)
    assert cache.manifest(next((tmp_path / "cache").iterdir()).name).source.startswith(f"folder {path}, decoder ")


@pytest.mark.parametrize("name", ["pets.zip", "pets.ZIP"])
def test_a_zip_file_with_folders_around_the_layout(tmp_path, caplog, monkeypatch, name):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    fill(tmp_path / "unpacked" / "archive" / "pets", {"cat": 5, "dog": 5})
    for beside in ("README.txt", ".DS_Store", "archive/.DS_Store", "__MACOSX/archive/._pets"):
        (tmp_path / "unpacked" / beside).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "unpacked" / beside).write_bytes(b"litter")
    path = tmp_path / name
    shutil.move(shutil.make_archive(str(tmp_path / "made"), "zip", tmp_path / "unpacked"), path)
    assert read(path)["train"].class_names == ("cat", "dog")
    assert f"{path}: has no test split; 2 of 10 pictures, 0.2 of each class, are it" in caplog.messages
    assert len(load_dataset(DataConfig(name=f"folder:{path}"), "train")) == 8


def test_messages_on_a_zip_file_name_it_and_the_path_within(tmp_path, caplog):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for name in ("train/cat/0.png", "train/dog/1.png"):
            archive.writestr(name, b"no picture")
        archive.writestr("train/loose.png", b"no picture")
    with pytest.raises(UserError) as error:
        read(tmp_path / "pets.zip")
    first, *others = str(error.value).split("\n  ")
    assert first == f"{tmp_path}/pets.zip: 2 pictures cannot be read; replace or remove them:"
    assert [line.partition(":")[0] for line in others] == [f"{tmp_path}/pets.zip/train/{n}" for n in ("cat/0.png", "dog/1.png")]
    assert f"{tmp_path}/pets.zip: left out: 1 picture outside of classes" in caplog.messages
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("notes.txt", b"nothing")
    with pytest.raises(UserError, match=rf"^{tmp_path}/empty.zip: expected pictures in {tmp_path}/empty.zip/train/CLASS/"):
        read(tmp_path / "empty.zip")


def test_zip_files_that_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/cat/0.png", bytes(50 << 20))
    with pytest.raises(UserError, match=r"bomb.zip: 1 files of 52,428,800 bytes, far more than a file of .* bytes can mean"):
        read(tmp_path / "bomb.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "bomb.zip").read_bytes()[:-30])
    with pytest.raises(UserError, match=r"cut.zip: truncated, or not a zip file"):
        read(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../../escaped.png", b"x")
        archive.writestr("train/cat/0.png", b"x")
    with pytest.raises(UserError, match=r"0.png: cannot be read"):
        read(tmp_path / "out.zip")
    assert not list(tmp_path.parent.glob("escaped*"))


def test_a_run_validates_with_the_pictures_that_were_given_for_it(tmp_path, monkeypatch, tiny_config):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    for split, first in {"train": 0, "val": 100, "test": 150}.items():
        fill(tmp_path / "pets" / split, {"cat": 20, "dog": 20}, first)
    config = tiny_config
    config.data.name, config.data.image_size, config.train.epochs = f"folder:{tmp_path / 'pets'}", 8, 1
    train(validated(config), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert greys(run.dataset("train")) == list(range(1, 41))
    assert greys(run.dataset("validation")) == list(range(101, 141))
    assert greys(run.dataset("test")) == list(range(151, 191))
    save(tmp_path / "pets" / "val" / "cat" / "00.png", 250)
    with pytest.raises(UserError, match="its validation images cannot be told from those that it was trained on"):
        run.dataset("validation")
    config.data.validation_fraction = 0.0
    assert training_splits(config.data)[1] is None
