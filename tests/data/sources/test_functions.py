import sys
import textwrap

import numpy as np
import pytest

from cifar_flax.config import DataConfig
from cifar_flax.data import cache
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.splits import training_splits
from cifar_flax.errors import ConfigError, UserError
from tests.data.conftest import data_hashes

DIGITS = """
import numpy as np
from cifar_flax.data.dataset import Dataset

BRIGHTNESS = 9

def part(count):
    images = np.full((count, 8, 6, 1), BRIGHTNESS, np.uint8)
    return Dataset(images, np.arange(count) % 10, list("0123456789"))

def digits():
    return {"train": part(20), "test": part(10)}

def train_alone():
    return {"train": part(20)}

def three_splits():
    return {"train": part(20), "validation": part(15), "test": part(10)}

def without_test():
    return {"train": part(20), "validation": part(15)}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes `my_digits.py` into the working directory; importing it again reads it again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(code):
        monkeypatch.delitem(sys.modules, "my_digits", raising=False)
        (tmp_path / "my_digits.py").write_text(textwrap.dedent(code))

    yield write
    sys.modules.pop("my_digits", None)


def load(function, split="train", **options):
    return load_dataset(DataConfig(name=f"my_digits:{function}", **options), split)


def test_splits_are_those_that_the_function_returns_memory_mapped(module):
    module(DIGITS)
    train, test = load("digits"), load("digits", "test")
    assert (len(train), len(test)) == (20, 10)
    assert isinstance(train.images, np.memmap)
    assert (train.images == 9).all()
    assert train.images.shape[1:] == (8, 6, 1)
    assert train.labels.dtype == np.int32
    assert train.class_names == tuple("0123456789")
    assert load("digits", image_size=4).images.shape == (20, 4, 4, 1)
    with pytest.raises(UserError, match=r"^my_digits:train_alone has no test split, only train$"):
        load("train_alone", "test")


def test_a_validation_split_is_validated_with_and_without_a_test_split_is_that(module):
    module(DIGITS)
    data = training_splits(DataConfig(name="my_digits:three_splits"))
    assert (len(data.train), len(data.validation)) == (20, 15)
    assert len(load("three_splits", "test")) == 10
    assert len(load("without_test", "test")) == 15


def test_a_changed_result_replaces_the_cached_copy_and_its_hashes(module, cache_folder):
    config = DataConfig(name="my_digits:digits")
    module(DIGITS)
    load("digits")
    before, entries = data_hashes(config, "train"), list(cache_folder.iterdir())
    module(DIGITS)
    load("digits")
    assert data_hashes(config, "train") == before
    assert set(before) == {"images", "labels"}
    module(DIGITS.replace("BRIGHTNESS = 9", "BRIGHTNESS = 200"))
    assert (load("digits").images == 200).all()
    after = data_hashes(config, "train")
    assert after["images"] != before["images"]
    assert after["labels"] == before["labels"]
    assert list(cache_folder.iterdir()) == entries


def test_equal_names_in_two_folders_have_two_entries(module, tmp_path, monkeypatch, cache_folder):
    module(DIGITS)
    load("digits")
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "other"), *sys.path])
    monkeypatch.delitem(sys.modules, "my_digits")
    (tmp_path / "other" / "my_digits.py").write_text(DIGITS.replace("BRIGHTNESS = 9", "BRIGHTNESS = 1"))
    assert (load("digits").images == 1).all()
    assert len(list(cache_folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ("None", r"returned None, expected \{'train': Dataset, 'test': Dataset\}"),
        ("{}", "returned {}, expected"),
        ("part(3)", "returned Dataset, expected"),
        ("{'test': part(3)}", "expected"),
        ("{'train': np.zeros(3)}", r"returned \{'train': float64 \(3,\)\}, expected"),
        ("{'train': part(3), 'extra': part(3)}", "returned a split 'extra', expected train, validation, test"),
        ("{'train': part(0)}", "N at least 1"),
        ("{'train': Dataset(np.zeros((3, 8, 8, 3)), np.zeros(3, int), ('a',))}", r"images of train are float64 \(3, 8, 8, 3\)"),
        ("{'train': Dataset(np.zeros((3, 8, 8, 4), 'u1'), np.zeros(3, int), ('a',))}", r"expected uint8 \(N, H, W, 1 or 3\)"),
        (
            "{'train': Dataset(np.zeros((3, 8, 8, 3)), np.zeros(3, int), ('a',))}",
            r"; \(255 \* images\)\.round\(\)\.astype\(np\.uint8\) ",
        ),
        (
            "{'train': Dataset(np.zeros((3, 3, 8, 8), 'u1'), np.zeros(3, int), ('a',))}",
            r"; images\.transpose\(0, 2, 3, 1\) brings",
        ),
        (
            "{'train': Dataset(__import__('jax').numpy.zeros((3, 8, 8, 3)), np.zeros(3, int), ('a',))}",
            r"are ArrayImpl, .*; np\.asarray\(images\) makes",
        ),
        (
            "{'train': Dataset(np.zeros((3, 8, 8, 3), 'u1'), ['a', 'b', 'a'], ('a', 'b'))}",
            r"expected integers; .* np\.unique\(labels, ",
        ),
        ("{'train': Dataset(np.zeros((3, 8, 8, 3), 'u1'), np.zeros(3, int), ())}", "class_names of train are empty, expected"),
        ("{'train': Dataset([[1]], np.zeros(1, int), ('a',))}", "images of train are list"),
        ("{'train': Dataset(np.zeros((3, 8, 8, 3), 'u1'), np.zeros(3), ('a',))}", "labels are float64"),
        ("{'train': Dataset(np.zeros((3, 8, 8, 3), 'u1'), np.zeros(2, int), ('a',))}", r"expected integers \(3,\)"),
        ("{'train': Dataset(np.zeros((3, 8, 8, 3), 'u1'), np.ones(3, int), ('a',))}", "labels go from 1 to 1, expected 0 to 0"),
        ("{'train': part(3), 'test': Dataset(np.zeros((1, 8, 6, 1), 'u1'), [0], ('a',))}", "other class names than train"),
        (
            "{'train': part(3), 'test': Dataset(np.zeros((1, 9, 6, 1), 'u1'), [0], tuple('0123456789'))}",
            r"images of test are \(9, ",
        ),
    ],
)
def test_anything_but_splits_of_a_data_set_is_one_line(module, result, problem, cache_folder):
    module(f"{DIGITS}\ndef wrong():\n    return {result}\n")
    with pytest.raises(ConfigError, match=problem) as error:
        load("wrong")
    assert str(error.value).startswith("config.data.name: my_digits:wrong() returned ")
    assert "\n" not in str(error.value)
    assert not cache_folder.exists()


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("None", "class_names of train are None, expected a tuple of names, in the order of the labels"),
        ("2", "class_names of train are int, expected"),
        ("'cat'", "class_names of train are str, expected"),
        ("{0: 'cat'}", r"class_names of train are \{0: str\}, expected"),
        ("{'cat', 'dog'}", "class_names of train are set, expected"),
        ("['cat'], np.zeros(3, int), 1", "coarse_names of train are int, expected"),
        ("['cat'], None, None", "coarse_names of train are None, expected"),
    ],
)
def test_names_of_classes_that_are_no_sequence_are_one_line(module, names, problem):
    module(f"{DIGITS}\ndef wrong():\n    return {{'train': Dataset(part(3).images, np.zeros(3, int), {names})}}\n")
    with pytest.raises(ConfigError, match=problem) as error:
        load("wrong")
    assert "\n" not in str(error.value)


def test_a_function_that_raises_is_one_line_with_the_place(module):
    module("def broken():\n    return 1 / 0\n")
    with pytest.raises(
        ConfigError, match=r"broken\(\) raised ZeroDivisionError: division by zero \(.*my_digits\.py, line 2\)$"
    ):
        load("broken")


def test_a_name_that_is_no_function_is_refused(module):
    module("number = 3\n")
    with pytest.raises(ConfigError, match="my_digits:number is a int, expected a function"):
        load("number")
    with pytest.raises(ConfigError, match="has no nothing"):
        load("nothing")


def test_nothing_that_lies_in_a_run_directory_is_executed(module, tmp_path):
    module("raise AssertionError('executed')\n")
    for file in ("config.json", "dataset.json"):
        (tmp_path / file).touch()
    with pytest.raises(ConfigError, match="in which nothing is executed"):
        load("digits")


def test_a_version_of_tfds_is_no_function(tiny):
    cache.write(cache.key_of("cifar10:3.0.2"), tiny, "a test")
    assert len(load_dataset(DataConfig(name="cifar10:3.0.2"), "train")) == 60
