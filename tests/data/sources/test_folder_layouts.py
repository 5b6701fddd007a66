"""Own pictures as people have them: without splits, with splits of other names, or in a zip file."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_flax.config import DataConfig
from cifar_flax.config.serialize import validated
from cifar_flax.data import cache
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.pictures.errors import DecoderUnavailable
from cifar_flax.data.sources import archives, unpacked
from cifar_flax.data.splits import training_splits
from cifar_flax.errors import UserError
from cifar_flax.run import Run
from cifar_flax.training.loop import train
from tests.helpers.picture_folders import fill, greys, read, save, write_table


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


def test_each_share_of_a_test_split_has_an_entry_of_its_own_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    data = DataConfig(name=f"folder:{fill(tmp_path / 'a', {'cat': 10, 'dog': 10})}")
    assert len(load_dataset(data, "test")) == 4
    data.test_fraction = 0.3
    assert len(load_dataset(data, "test")) == 6
    sources = [json.loads(manifest.read_text())["source"] for manifest in (tmp_path / "cache").rglob("manifest.json")]
    assert [sum(f"test {share} by seed 0 where undivided" in source for source in sources) for share in (0.2, 0.3)] == [1, 1]


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


@pytest.mark.parametrize(
    ("packed_as", "read_as", "warned"),
    [("utf-8", "Café", False), ("latin-1", "CafΘ", True)],  # of macOS, and of what names no encoding
)
def test_names_in_a_zip_file_that_does_not_say_how_they_are_written(tmp_path, caplog, packed_as, read_as, warned):
    name = "Café".encode(packed_as)
    plain = "C" * len(name)
    fill(tmp_path / "pets", {plain: 5, "dog": 5})
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "pets"))
    (tmp_path / "pets.zip").write_bytes(packed.read_bytes().replace(plain.encode() + b"/", name + b"/"))
    assert read(tmp_path / "pets.zip")["train"].class_names == (read_as, "dog")
    assert any("in an encoding that it does not name" in message for message in caplog.messages) == warned


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


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("a/0.png", "a/0.png"), "'a/0.png' is in it twice; pack it anew"),
        (("a/0.png", "./a//../0.png"), "'./a//../0.png' is in it twice; pack it anew"),
        (("a", "a/0.png"), "'a/0.png' cannot be unpacked (Not a directory); unpack it, and name the folder"),
        (("a/0.png", "a"), "'a' cannot be unpacked (Is a directory); unpack it, and name the folder"),
        (
            ("a/" + 300 * "x",),
            f"'a/{58 * 'x'}...' cannot be unpacked (File name too long); unpack it, and name the folder",
        ),
        (
            (3000 * "a/" + "0.png",),
            f"'{30 * 'a/'}...' lies 3,000 folders deep, expected at most 100; unpack it, and name the folder",
        ),
    ],
)
def test_names_of_which_a_zip_file_makes_no_files_or_one_are_refused(tmp_path, names, fault):
    save(tmp_path / "0.png")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for name in ("train/a/1.png", "train/b/1.png", *names):
            archive.writestr(name, (tmp_path / "0.png").read_bytes())
    with pytest.raises(UserError) as error:
        read(tmp_path / "pets.zip")
    assert str(error.value) == f"{tmp_path}/pets.zip: {fault}"


def test_zip_files_that_are_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/cat/0.png", bytes(50 << 20))
    monkeypatch.setattr(unpacked, "SUSPICIOUS", 1 << 20)
    with pytest.raises(UserError, match=r"bomb.zip: 1 files of 52,428,800 bytes, far more than a file of .* bytes can mean"):
        read(tmp_path / "bomb.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "bomb.zip").read_bytes()[:-30])
    with pytest.raises(UserError, match=r"cut.zip: truncated, or not a zip file"):
        read(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("train/cat/0.png", bytes(range(256)))
    damaged = bytearray((tmp_path / "lzma.zip").read_bytes())
    damaged[60:100] = bytes(40)
    (tmp_path / "lzma.zip").write_bytes(damaged)
    with pytest.raises(UserError, match=r"lzma.zip: truncated, or not a zip file"):
        read(tmp_path / "lzma.zip")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../../escaped.png", b"x")
        archive.writestr("train/cat/0.png", b"x")
    with pytest.raises(UserError, match=r"0.png: cannot be read"):
        read(tmp_path / "out.zip")
    assert not list(tmp_path.parent.glob("escaped*"))


def test_a_zip_file_on_a_machine_without_a_process_to_spare_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr("cat/0.png", b"x")
    with pytest.raises(DecoderUnavailable), unpacked.unpacked(tmp_path / "pets.zip"):
        raise DecoderUnavailable


def test_a_small_zip_file_of_drawings_that_pack_well_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "drawings.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("cat/0.bmp", "dog/1.bmp"):
            file = io.BytesIO()
            Image.new("RGB", (800, 800), "white").save(file, "BMP")
            archive.writestr(name, file.getvalue())
    assert (tmp_path / "drawings.zip").stat().st_size * 100 < 2 * 800 * 800 * 3
    assert read(tmp_path / "drawings.zip", test_fraction=0)["train"].class_names == ("cat", "dog")


def test_backslashes_in_a_zip_file_lead_into_folders(tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "pets.zip", "w") as archive:
        for name in ("train\\", "train\\cat\\0.png", "train\\dog\\1.png", "test\\dog\\2.png", "..\\..\\3.png", "C:\\a\\4.png"):
            archive.writestr(zipfile.ZipInfo(name), b"" if name.endswith("\\") else picture.getvalue())
    splits = read(tmp_path / "in" / "pets.zip")
    assert {split: len(data) for split, data in splits.items()} == {"train": 2, "test": 1}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "pets.zip"]


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


def test_a_share_to_hold_out_is_refused_where_there_is_a_test_split(tmp_path):
    folder = fill(tmp_path / "a", {"cat": 10, "dog": 10})
    assert len(archives.read(folder, "mine", test_fraction=0.3).splits["test"]) == 6
    for split in ("train", "test"):
        fill(tmp_path / "b" / split, {"cat": 2, "dog": 2})
    with pytest.raises(
        UserError, match=r"^--test_fraction=0\.3: \S+ has a test split, its own or its validation pictures; leave it out$"
    ):
        archives.read(tmp_path / "b", "mine", test_fraction=0.3)
