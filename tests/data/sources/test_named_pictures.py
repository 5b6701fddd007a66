"""Which pictures the rows of a table mean, in folders that are splits, classes, or behind links."""

import unicodedata

import pytest

from cifar_flax.errors import UserError
from tests.helpers.picture_folders import fill, greys, read, save, write_table

CAFE = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.mark.parametrize("above", ["", "images"])
def test_folders_of_splits_divide_the_pictures_of_one_table(tmp_path, above):
    first = 0
    for split in ("train", "Testing", "val"):
        fill(tmp_path / above, {split: 2}, first)
        first += 50
    rows = [
        (f"{above}/{split}/{i:02}.png".removeprefix("/"), ("cat", "dog")[i])
        for split in ("train", "Testing", "val")
        for i in range(2)
    ]
    write_table(tmp_path / "labels.csv", ("file", "label"), *rows)
    splits = read(tmp_path)
    assert {split: greys(data) for split, data in splits.items()} == {
        "train": [1, 2],
        "validation": [101, 102],
        "test": [51, 52],
    }


def test_a_column_of_splits_counts_more_than_folders(tmp_path):
    fill(tmp_path, {"train": 2})
    fill(tmp_path, {"test": 2}, first=50)
    rows = [("train/00", "test"), ("train/01", "train"), ("test/00", "train"), ("test/01", "train")]
    write_table(tmp_path / "labels.csv", ("file", "label", "split"), *((file, "cat", split) for file, split in rows))
    assert {split: greys(data) for split, data in read(tmp_path).items()} == {"train": [2, 51, 52], "test": [1]}


def test_a_row_of_a_split_means_the_picture_in_the_folder_of_that_split(tmp_path):
    fill(tmp_path, {"train": 2})
    fill(tmp_path, {"test": 2}, first=50)
    rows = [(f"{i:02}.png", "cat", split) for split in ("train", "test") for i in range(2)]
    write_table(tmp_path / "labels.csv", ("file", "label", "split"), *rows)
    assert {split: greys(data) for split, data in read(tmp_path).items()} == {"train": [1, 2], "test": [51, 52]}


def test_a_table_that_names_pictures_of_train_alone_is_undivided(tmp_path):
    fill(tmp_path, {"train": 10, "test": 2})
    write_table(tmp_path / "labels.csv", ("file", "label"), *((f"train/{i:02}.png", "cat") for i in range(10)))
    splits = read(tmp_path)
    assert {split: len(data) for split, data in splits.items()} == {"train": 8, "test": 2}
    assert sorted(greys(splits["train"]) + greys(splits["test"])) == list(range(1, 11))


def test_a_table_that_names_pictures_of_test_alone_is_refused(tmp_path):
    fill(tmp_path, {"train": 2, "test": 2})
    write_table(tmp_path / "labels.csv", ("file", "label"), *((f"test/{i:02}.png", "cat") for i in range(2)))
    with pytest.raises(UserError, match=rf"^{tmp_path}: the pictures that labels.csv names are all of the split test; "):
        read(tmp_path)


def test_tables_whose_names_end_with_a_split_divide_the_pictures(tmp_path):
    fill(tmp_path, {"images": 4})
    write_table(tmp_path / "pets_train.csv", ("file", "label"), ("00", "cat"), ("01", "dog"))
    write_table(tmp_path / "pets_test.csv", ("file", "label"), ("02", "cat"), ("03", "dog"))
    assert {split: greys(data) for split, data in read(tmp_path).items()} == {"train": [1, 2], "test": [3, 4]}


@pytest.mark.parametrize("header", [("id", "name"), ("id", "label"), ("id", "code", "label")])
@pytest.mark.parametrize("digits", [1, 3])
def test_a_table_of_the_classes_beside_numbered_folders_names_no_pictures(tmp_path, caplog, header, digits):
    for i in range(12):
        save(tmp_path / str(i % 3) / f"{i:0{digits}}.png", i)
    rows = [(f"{i:0{digits}}", "code", name)[-len(header) :] for i, name in enumerate(("zero", "one", "two"))]
    rows = [(f"{i:0{digits}}", *row[1:]) for i, row in enumerate(rows)]
    write_table(tmp_path / "classes.csv", header, *rows)
    train = read(tmp_path, test_fraction=0)["train"]
    assert train.class_names == ("0", "1", "2")
    assert [image[0, 0, 0] % 3 for image in train.images] == train.labels.tolist()
    assert f"{tmp_path}: left out: classes.csv (folders name the classes)" in caplog.messages


def test_a_table_of_the_classes_names_no_pictures_that_are_called_like_them(tmp_path):
    for name in ("cat/cat", "cat/a", "dog/dog", "dog/b"):
        save(tmp_path / f"{name}.png")
    write_table(tmp_path / "classes.csv", ("name", "label"), ("cat", "0"), ("dog", "1"))
    assert read(tmp_path, test_fraction=0)["train"].class_names == ("cat", "dog")


def test_a_table_of_pictures_that_each_lie_in_a_folder_of_their_name_is_read(tmp_path):
    for i in range(4):
        save(tmp_path / f"patient{i}" / f"patient{i}.png", i)
    write_table(tmp_path / "labels.csv", ("id", "label"), *((f"patient{i}", ("ill", "well")[i % 2]) for i in range(4)))
    train = read(tmp_path, test_fraction=0)["train"]
    assert (train.class_names, greys(train), train.labels.tolist()) == (("ill", "well"), [0, 1, 2, 3], [0, 0, 1, 1])


def test_a_table_names_pictures_behind_a_link_to_their_folder(tmp_path):
    fill(tmp_path / "elsewhere", {"images": 2})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "images").symlink_to(tmp_path / "elsewhere" / "images")
    write_table(tmp_path / "mine" / "labels.csv", ("file", "label"), ("images/00.png", "cat"), ("images/01.png", "dog"))
    assert greys(read(tmp_path / "mine", test_fraction=0)["train"]) == [1, 2]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("name", ["{cafe}/0.png", "{cafe}1.png", "{cafe}1"])
def test_a_table_names_pictures_in_either_spelling_of_unicode(tmp_path, forms, name):
    in_table, on_disk = (unicodedata.normalize(form, CAFE) for form in forms)
    save(tmp_path / on_disk / "0.png")
    save(tmp_path / f"{on_disk}1.png")
    write_table(tmp_path / "labels.csv", ("file", "label"), (name.format(cafe=in_table), "cat"))
    assert len(read(tmp_path, test_fraction=0)["train"]) == 1


def test_labels_in_both_spellings_of_unicode_are_one_class(tmp_path):
    fill(tmp_path, {"images": 2})
    spellings = [unicodedata.normalize(form, CAFE) for form in ("NFC", "NFD")]
    write_table(tmp_path / "labels.csv", ("file", "label"), ("00", spellings[0]), ("01", spellings[1]))
    assert read(tmp_path, test_fraction=0)["train"].class_names == (CAFE,)
