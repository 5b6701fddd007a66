"""The split that names of files and folders say."""

from pathlib import PurePath

import pytest

from cifar_flax.data.sources.split_names import split_in_name, split_of_folders


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002", "train"),
        ("validation-00000-of-00001-b42a775f407cee45", "validation"),
        ("dog-train-test", "test"),
        ("train_test_split-test", "test"),
        ("my_test-train", "train"),
        ("dev-signs-train", "train"),
        ("trainLabels", "train"),
        ("cifar100test", "test"),
        ("PETS_VAL", "validation"),
        ("Testing", "test"),
        ("training-set", "train"),
        ("latest", None),
        ("trains", None),
        ("", None),
    ],
)
def test_the_last_word_for_a_split_in_a_name_counts(name, split):
    assert split_in_name(name) == split


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("test/1.png", "test"),
        ("images/Train/test/1.png", "train"),
        ("a/b/1.png", None),
        ("test.png", None),
        ("a/test.png", None),
    ],
)
def test_the_first_folder_that_is_called_like_a_split_counts(path, split):
    assert split_of_folders(PurePath(path)) == split
