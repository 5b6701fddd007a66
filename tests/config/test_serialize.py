"""What a config can hold: what config.json brings back, and nothing that it would turn into something else."""

import enum
import sys
import types

import pytest

from cifar_flax import Config
from cifar_flax.config.serialize import read_config, validated, write_config
from cifar_flax.errors import ConfigError

SOURCE = """
import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Literal
import flax.linen as nn
import numpy as np
from cifar_flax import ModelSpec

@dataclass
class Conv:
    size: int = 3

@dataclass
class Pool:
    size: int = 2

@dataclass
class WidePool(Pool):
    pass

@dataclass
class KindOfConv:
    size: int = 3
    kind: Literal["conv"] = "conv"

@dataclass
class KindOfPool:
    size: int = 3
    kind: Literal["pool"] = "pool"

class Function(enum.Enum):
    RELU = enum.member(nn.relu)

class Size(enum.Enum):
    SMALL = (1, 2)

class Color(enum.StrEnum):
    RED = "red"

class Light(enum.StrEnum):
    RED = "red"

@dataclass
class Mine(ModelSpec):
    x: {annotation} = {default}

    def build(self, num_classes, dtype):
        raise AssertionError
"""


@pytest.fixture
def config_with(monkeypatch):
    """A config whose network has one field, of this annotation and with this value."""

    def build(annotation, default):
        module = types.ModuleType("mine_to_serialize")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(SOURCE.format(annotation=annotation, default=default), module.__dict__)
        return Config(model=module.Mine())

    return build


@pytest.mark.parametrize(
    ("annotation", "default", "message"),
    [
        ("tuple[Conv | Pool, ...]", "(Conv(), Pool())", "config.model.x[1]: a Pool reads back from JSON as a Conv; declare"),
        ("Pool", "field(default_factory=WidePool)", "config.model.x: a WidePool reads back from JSON as a Pool; declare"),
        ("Any", "field(default_factory=Conv)", "config.model.x: a Conv reads back from JSON as a dict; declare"),
        ("Color | Light", "Light.RED", "config.model.x: <Light.RED: 'red'> reads back from JSON as <Color.RED: 'red'>"),
        ("Any", "Color.RED", ""),  # a str as good as the other
        ("Any", "field(default_factory=lambda: {1: 2})", "config.model.x: {1: 2} reads back from JSON as {'1': 2}"),
        ("int", "field(default=3, init=False)", ""),
        ("Any", "nn.relu", "config.model.x: a config keeps text, numbers, booleans, "),
        ("Callable", "nn.relu", "config.model.x: a config keeps text, numbers, booleans, "),
        ("frozenset", "frozenset()", "config.model.x: a config keeps text, numbers, booleans, "),
        ("Path", "Path('a')", "config.model.x: a config keeps text, numbers, booleans, "),
        ("type", "nn.Dense", "config.model.x: a config keeps text, numbers, booleans, "),
        ("Any", "Conv", "config.model.x: a config keeps text, numbers, booleans, "),
        ("Function", "Function.RELU", "config.model.x: a config keeps text, numbers, booleans, "),
        ("Size", "Size.SMALL", "config.model.x: a config keeps text, numbers, booleans, "),
        ("float", "np.float32(0.1)", ""),
        ("int", "np.int64(3)", ""),
        ("tuple[KindOfConv | KindOfPool, ...]", "(KindOfConv(), KindOfPool())", ""),
        ("dict[int, str]", "field(default_factory=lambda: {1: 'a'})", ""),
        ("list[int]", "field(default_factory=lambda: [1, 2])", ""),
    ],
)
def test_a_value_is_kept_as_it_is_or_refused_in_a_line(config_with, tmp_path, annotation, default, message):
    config = config_with(annotation, default)
    if message:
        with pytest.raises(ConfigError) as error:
            validated(config)
        assert str(error.value).startswith(message)
        assert "\n" not in str(error.value)
        assert "0x" not in str(error.value)
        return
    assert validated(config) == config
    write_config(config, tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == config


def test_a_tuple_may_become_a_list_and_a_dict_a_dataclass(config_with):
    assert validated(config_with("list[int]", "(1, 2)")).model.x == [1, 2]
    conv = validated(config_with("Conv", "field(default_factory=lambda: {'size': 4})")).model.x
    assert (type(conv).__name__, conv.size) == ("Conv", 4)


def test_a_computed_field_is_computed_anew(config_with):
    config = config_with("int", "field(default=3, init=False)")
    config.model.x = 4
    assert validated(config).model.x == 3


def test_text_and_lists_become_what_the_fields_are_declared_with():
    config = Config()
    config.augment.custom, config.data.normalization, config.train.epochs = ["flip"], "unit", 3
    actual = validated(config)
    assert actual.augment.custom == ("flip",)
    assert isinstance(actual.data.normalization, enum.StrEnum)
