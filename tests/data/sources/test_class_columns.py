"""Classes of Parquet and Arrow files, each of which may have numbered them by itself."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from cifar_flax.data.sources import archives
from cifar_flax.errors import UserError
from tests.helpers.hub_files import png

PICTURE = png(np.zeros((8, 8, 3), np.uint8))
E_ACUTE, E_AND_ACUTE = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"


@pytest.fixture
def write(tmp_path):
    """Writes labels, by the column, as a file of a split, with the names that `datasets` gives classes of a column."""

    def write(split, names=None, **labels):
        table = pa.table({"image": [PICTURE] * len(next(iter(labels.values()))), **labels})
        features = {column: {"_type": "ClassLabel", "names": of} for column, of in (names or {}).items()}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
        parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / f"{split}.parquet")
        return tmp_path

    return write


def read(path):
    """The names of the labels, by split."""
    splits = archives.read(path, "mine").splits
    return {split: [data.class_names[label] for label in data.labels] for split, data in splits.items()}


def test_labels_of_a_file_are_read_with_its_own_names(write):
    write("train", {"label": ["bird", "cat", "dog"]}, label=[0, 1, 2])
    write("validation", {"label": ["dog", "bird", "cat"]}, label=[0, 1, 2])
    path = write("test", {"label": ["cat", "dog"]}, label=[0, 1])
    assert read(path) == {"train": ["bird", "cat", "dog"], "validation": ["dog", "bird", "cat"], "test": ["cat", "dog"]}


def test_shards_of_a_split_may_number_their_classes_differently(write):
    write("train-00000-of-00002", {"label": ["cat", "dog"]}, label=[0, 1])
    path = write("train-00001-of-00002", {"label": ["dog", "cat"]}, label=[0, 1])
    assert read(path) == {"train": ["cat", "dog", "dog", "cat"]}


def test_superclasses_of_a_file_are_read_with_its_own_names(write):
    fine = {"label": ["cat", "oak"]}
    write("train", {**fine, "coarse_label": ["animal", "tree"]}, label=[0, 1], coarse_label=[0, 1])
    path = write("test", {**fine, "coarse_label": ["tree", "animal"]}, label=[0, 1], coarse_label=[1, 0])
    test = archives.read(path, "mine").splits["test"]
    assert (test.coarse_names, test.coarse_labels.tolist()) == (("animal", "tree"), [0, 1])


def test_a_class_that_the_first_file_has_not_is_refused(write):
    write("train", {"label": ["cat", "dog"]}, label=[0, 1])
    path = write("test", {"label": ["cat", "eel"]}, label=[0, 1])
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value) == (
        f"{path}/test.parquet: label has the class 'eel', which {path}/train.parquet has not; "
        "write all files with the same names of classes"
    )


def test_numbers_without_names_are_those_of_the_files_with_names(write):
    write("train", {"label": ["cat", "dog"]}, label=[0, 1])
    path = write("test", label=[1, 0, 1])
    assert read(path)["test"] == ["dog", "cat", "dog"]
    write("test", label=[1, 2])
    with pytest.raises(UserError, match=r"test.parquet: label has the label 2 in row 1, expected .* a number from 0 to 1"):
        read(path)


def test_texts_are_the_names_of_classes(write):
    write("train", {"label": ["cat", E_ACUTE]}, label=[0, 1])
    path = write("test", label=[E_AND_ACUTE, "cat"])
    assert read(path)["test"] == [E_ACUTE, "cat"]
    write("train", label=["cat", E_AND_ACUTE])
    assert read(path)["train"] == ["cat", E_ACUTE]
    write("test", label=["cat", "eel"])
    write("train", {"label": ["cat", "dog"]}, label=[0, 1])
    with pytest.raises(UserError, match=r"test.parquet: label has the label 'eel' in row 1, expected the name of a class"):
        read(path)


def test_texts_in_one_file_and_numbers_in_another_are_refused(write):
    write("train", label=["cat", "dog"])
    with pytest.raises(UserError, match="label has text in some files and numbers in others; write all files with the same"):
        read(write("test", label=[0, 1]))


def test_whole_numbers_that_pandas_stores_as_floats_are_labels(write):
    assert read(write("train", label=[1.0, 0.0, 1.0])) == {"train": ["1", "0", "1"]}


@pytest.mark.parametrize("labels", [[0, None, 1], [0.0, float("nan"), 1.0], ["a", None, "b"]])
def test_rows_without_a_label_are_named_as_such(write, labels):
    with pytest.raises(UserError, match="label has rows without a label; remove them"):
        read(write("train", label=labels))


@pytest.mark.parametrize("names", [3, {"a": 1}, [1, 2], None])
def test_names_that_are_no_list_of_texts_are_none(write, names):
    assert read(write("train", {"label": names}, label=[0, 1])) == {"train": ["0", "1"]}
