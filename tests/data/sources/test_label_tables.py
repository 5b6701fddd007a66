"""Tables that name the class of each picture, beside folders and in their place."""

import pytest

from cifar_flax.errors import UserError
from tests.helpers.picture_folders import fill, greys, read, write_table


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


@pytest.mark.parametrize(("labels", "names"), [("2 10 0 1", "0 1 2 10"), ("2 10 0 a", "0 10 2 a")])
def test_whole_numbers_are_classes_in_the_order_of_their_size(tmp_path, labels, names):
    fill(tmp_path, {"train": 4})
    write_table(tmp_path / "train.csv", ("id", "label"), *((f"{i:02}", label) for i, label in enumerate(labels.split())))
    assert read(tmp_path)["train"].class_names == tuple(names.split())


def test_a_table_a_split(tmp_path):
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "file,label\n00.png,shih tzu, dog\n01.png,shih tzu, toy\n",
            r"line 2: has 3 columns, and the first line 2; put",
        ),
        ("file,label\n00.png,cat\n01.png,shih tzu, toy\n", r"line 3: has 3 columns, and the first line 2; put"),
        ("00.png,cat\n01.png,shih tzu, toy\n", r"line 2: has 3 columns, and the first line 2; put"),
    ],
)
def test_a_row_with_more_cells_than_the_header_is_refused(tmp_path, text, words):
    fill(tmp_path, {"images": 2})
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read(tmp_path)


@pytest.mark.parametrize("text", ["file,label\n00.png,cat,\n01.png,dog, ,\n", "file,label,\n00.png,cat,\n01.png,dog,\n"])
def test_cells_without_a_header_may_be_there_if_they_are_empty(tmp_path, text):
    fill(tmp_path, {"images": 2})
    (tmp_path / "labels.csv").write_text(text)
    assert read(tmp_path, test_fraction=0)["train"].class_names == ("cat", "dog")


def test_quotes_count_behind_a_space_too(tmp_path):
    fill(tmp_path, {"images": 2})
    (tmp_path / "labels.csv").write_text('"file", "label"\n"00.png", "shih tzu, dog"\n"01.png", "shih tzu, toy"\n')
    assert read(tmp_path, test_fraction=0)["train"].class_names == ("shih tzu, dog", "shih tzu, toy")
