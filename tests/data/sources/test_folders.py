import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from cifar_flax.config import DataConfig
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.sources import archives
from cifar_flax.errors import ConfigError, UserError
from tests.data.conftest import refused


def make_folder(root):
    for split, classes in {"train": ("cat", "dog"), "test": ("dog",)}.items():
        for name in classes:
            (root / split / name).mkdir(parents=True)
    Image.new("RGB", (64, 32), (255, 0, 0)).save(root / "train" / "cat" / "b.png")
    Image.new("L", (32, 32), 100).save(root / "train" / "cat" / "a.PNG")
    Image.new("RGBA", (40, 40), (0, 255, 0, 128)).save(root / "train" / "dog" / "c.png")
    Image.new("RGB", (32, 32), (0, 0, 255)).quantize(4).save(root / "test" / "dog" / "d.gif")
    (root / "train" / "cat" / "notes.txt").write_text("not a picture, and not named like one")
    (root / "train" / "cat" / ".hidden.png").write_text("nor this")
    return root


def test_a_name_without_a_folder_is_not_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(make_folder(tmp_path / "pets"))
    with pytest.raises(ConfigError, match=r"config\.data\.name: folder: names no folder; expected folder:PATH"):
        load_dataset(DataConfig(name="folder:"), "train")


def test_folder(tmp_path):
    splits = archives.read(make_folder(tmp_path / "pets"), "pets").splits
    train, test = splits["train"], splits["test"]
    assert train.class_names == test.class_names == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 1]
    assert test.labels.tolist() == [1]
    assert train.images.shape == (3, 32, 32, 3)
    assert train.images[:, 5, 5].tolist() == [[100, 100, 100], [255, 0, 0], [127, 255, 127]]  # the last over white
    assert test.images[0, 5, 5].tolist() == [0, 0, 255]


def test_folder_pictures_are_cropped_antialiased_and_turned_upright(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    stripes = np.zeros((96, 192, 3), np.uint8)
    stripes[:, :48] = stripes[:, 144:] = 255  # what a central square does not show
    stripes[::2, 48:144] = 200  # finer than the result can show
    Image.fromarray(stripes).save(tmp_path / "train" / "a" / "a.png")
    turned = np.zeros((32, 32, 3), np.uint8)
    turned[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    Image.fromarray(turned).save(tmp_path / "train" / "a" / "b.png", exif=exif)
    images = archives.read(tmp_path, "a", 24).splits["train"].images
    assert images.shape[1:3] == (24, 24)
    assert abs(images[0, 2:-2, 2:-2].astype(int) - 100).max() < 20
    assert images[1, 3, 3, 0] < 20
    assert images[1, -3, 3, 0] > 235


def test_folders_that_cannot_be_read(tmp_path):
    refused(tmp_path, "/train/CLASS/")
    (tmp_path / "heic" / "cat").mkdir(parents=True)
    (tmp_path / "heic" / "cat" / "1.HEIC").write_bytes(b"")
    refused(tmp_path / "heic", "has no pictures, but HEIC photographs, which are not read: save them as JPEG")
    root = make_folder(tmp_path / "pets")
    (root / "train" / "cat" / "z.jpg").write_bytes(b"no picture")
    (root / "train" / "cat" / "y.png").write_bytes((root / "train" / "cat" / "b.png").read_bytes()[:60])
    with pytest.raises(UserError) as error:
        archives.read(root, "pets")
    first, *others = str(error.value).split("\n")
    assert first == f"{root}: 2 pictures cannot be read; replace or remove them:"
    assert [line.split(":")[0] for line in others] == [f"  {root}/train/cat/{name}" for name in ("y.png", "z.jpg")]
    (root / "train" / "cat" / "z.jpg").unlink()
    refused(root, "y.png", "; replace or remove it")
    (root / "train" / "cat" / "y.png").unlink()
    (root / "test" / "bird").mkdir()
    refused(root, "bird", "no such class")
    (root / "test" / "bird").rmdir()
    (root / "train" / "eel").mkdir()
    refused(root, "eel", "no pictures")


def save(path, color=(0, 0, 0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), color).save(path)


def said(caplog):
    return [line for line in caplog.messages if "left out" in line]


def test_what_is_left_out_is_said_in_a_line(tmp_path, caplog):
    for name in ("train/cat/1.png", "train/cat/more/2.png", "train/cat/more/deep/3.png", "train/4.png", "sea/cat/5.png"):
        save(tmp_path / name)
    for name in ("train/cat/a.heic", "train/cat/b.heic", "train/cat/c.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "train" / "cat" / "gone.png").symlink_to("/nowhere/gone.png")
    (tmp_path / "train" / "dog").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "train" / "cat" / "pipe.png")
    assert len(archives.read(tmp_path, "a").splits["train"]) == 1
    assert said(caplog) == [
        f"{tmp_path}: left out: 2 pictures in folders below those of classes, 1 picture outside of classes, 1 picture in sea/, "
        "2 links that lead nowhere, 1 pipe or device, 3 other files (.heic, .txt)"
    ]


def test_what_operating_systems_leave_behind_is_not_worth_a_word(tmp_path, caplog):
    save(tmp_path / "train" / "cat" / "1.png")
    for name in ("train/__MACOSX/cat/._1.png", "train/@eaDir/x.png", "train/cat/@eaDir/y.png", "train/cat/Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"litter")
    for name in ("train/.DS_Store", "train/cat/desktop.ini", "train/cat/._2.png"):
        (tmp_path / name).write_bytes(b"litter")
    assert archives.read(tmp_path, "a").splits["train"].class_names == ("cat",)
    assert said(caplog) == []


def test_pictures_are_read_whatever_their_suffix_of_a_format_is(tmp_path):
    for i, suffix in enumerate((".jfif", ".jpe", ".JPG", ".avif", ".apng", ".dib", ".pgm", ".webp")):
        save(tmp_path / f"{i}.png", (200, 100, 50))
        (tmp_path / "train" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{i}.png").rename(tmp_path / "train" / "a" / f"{i}{suffix}")
    assert len(archives.read(tmp_path, "a").splits["train"]) == 8


def test_a_class_is_the_same_in_both_spellings_of_unicode(tmp_path):
    composed, apart = (unicodedata.normalize(form, "caf\N{LATIN SMALL LETTER E WITH ACUTE}") for form in ("NFC", "NFD"))
    save(tmp_path / "train" / composed / "1.png")
    save(tmp_path / "test" / apart / "1.png")
    splits = archives.read(tmp_path, "a").splits
    assert splits["test"].class_names == (composed,)
    assert splits["test"].labels.tolist() == [0]
    save(tmp_path / "train" / apart / "2.png")
    refused(tmp_path, "two spellings of Unicode")


@pytest.mark.parametrize(
    ("name", "words"),
    [(b"caf\xe9", "is not UTF-8; rename the folder"), (b"a\x1b[2Jb", "control characters"), (b"a\nb", "control characters")],
)
def test_a_class_with_a_name_that_cannot_be_shown_is_refused(tmp_path, name, words):
    save(tmp_path / "train" / "ok" / "1.png")
    os.mkdir(os.path.join(os.fsencode(tmp_path), b"train", name))
    with pytest.raises(UserError, match=words):
        archives.read(tmp_path, "a")


def test_a_class_whose_pictures_are_all_further_down_is_refused(tmp_path):
    save(tmp_path / "train" / "cat" / "more" / "1.png")
    refused(tmp_path, "no pictures there, but in folders below it")


def test_pictures_for_testing_that_are_in_no_class_are_no_split(tmp_path, caplog):
    for name in ("train/a/1.png", "train/b/2.png", "test/3.png"):
        save(tmp_path / name)
    assert set(archives.read(tmp_path, "pets").splits) == {"train"}
    assert "left out: 1 picture outside of classes" in caplog.text
