"""Configs to JSON and back, checked on the way, and the fields in which two of them differ."""

import dataclasses
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cifar_flax.config.schema import Config
from cifar_flax.config.validate import validate
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed

FLOAT32_TINY, FLOAT32_MAX = (
    float(np.finfo(np.float32).tiny),
    float(np.finfo(np.float32).max),
)  # of float32; XLA takes less for 0
HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")  # what Python makes of a byte on the command line that is not UTF-8


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested dicts and lists of JSON's own types."""
    result: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return result


def from_dict(values: dict[str, Any]) -> Config:
    """Builds a Config from what `to_dict` gives, with the type and range of every field checked.

    Raises:
      UserError: an unknown field, a wrong type, a number out of its range, or what `config.validate` refuses.
    """
    return _validated(json.dumps(values))


def _validated(text: str) -> Config:
    try:
        config = _adapter().validate_json(text)
    except ValidationError as e:
        error = e.errors()[0]
        if error["type"] == "json_invalid":  # though `json` wrote it
            raise ConfigError(_explain_invalid(text)) from None
        raise ConfigError(f"{_path(error['loc'])}: {_explain(error)}") from None
    _check_float32(config)
    validate(config)
    return config


def _explain_invalid(text: str) -> str:
    """Which field is to blame for a text that Python's `json` writes and other readers refuse: names of files, mostly."""
    for path, value in flatten_config(json.loads(text)):
        if HALF_A_CHARACTER.search("".join(map(str, value)) if isinstance(value, list) else str(value)):
            return f"{path}: should be text in UTF-8, not {value!r}"
    return "config: a value in it is nested too deeply"


def _check_float32(config: Config) -> None:
    """Refuses what is another thing in float32, where all is computed: above 0 and yet 0, below 1 and yet 1, infinite."""
    for path, value in flatten_config(to_dict(config)):
        for number in value if isinstance(value, list) else [value]:
            if not isinstance(number, float) or number == 0:
                continue
            if not FLOAT32_TINY <= abs(number) <= FLOAT32_MAX:
                raise ConfigError(f"{path}: {number!r} is {'0' if abs(number) < 1 else 'infinite'} in float32")
            if number < 1 <= np.float32(number):
                raise ConfigError(f"{path}: {number!r} is 1 in float32")


@functools.cache
def _adapter() -> TypeAdapter[Config]:
    """Built once: that takes fifty times as long as a check."""
    return TypeAdapter(Config)


def validated(config: Config) -> Config:
    """The same config with every value of its declared type, for configs that a file or flags have put together."""
    # What JSON has no form for becomes an object, which no field is, so that the field is named.
    return _validated(json.dumps(dataclasses.asdict(config), default=lambda value: {type(value).__name__: str(value)}))


def write_config(config: Config, path: Path) -> None:
    """Writes `config` as JSON."""
    write_text(path, dumps_checksummed(to_dict(config)))


def read_config(path: Path) -> Config:
    """Reads what `write_config` wrote.

    Raises:
      UserError: the file is missing, damaged, or not a config.
    """
    try:
        return from_dict(read_checksummed(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is {path.parent} a run directory?") from None
    except ValueError as e:
        raise UserError(f"{path}: damaged: {e}; remove it, and the command that trains the run writes it anew") from None
    except UserError as e:
        raise UserError(f"{path}: {e}") from None


def flatten_config(values: Any, path: str = "config") -> Iterator[tuple[str, Any]]:
    """Yields (path, value) of every leaf of what `to_dict` gives: `config.model.blocks[0].dropout`, .1."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from flatten_config(value, f"{path}.{name}")
    elif isinstance(values, list) and any(isinstance(value, dict) for value in values):
        for i, value in enumerate(values):
            yield from flatten_config(value, f"{path}[{i}]")
    else:
        yield path, values


def differences(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """The leaves in which `a` and `b` differ: {path: (value in a, value in b)}, None where one has no such leaf."""
    left, right = dict(flatten_config(to_dict(a))), dict(flatten_config(to_dict(b)))
    paths = list(left) + [path for path in right if path not in left]
    return {path: (left.get(path), right.get(path)) for path in paths if left.get(path) != right.get(path)}


def _path(location: tuple[int | str, ...]) -> str:
    names = (part if isinstance(part, int) or part.isidentifier() else repr(part) for part in location)
    return "config" + "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)


def _explain(error: Any) -> str:
    if error["type"] == "unexpected_keyword_argument":
        return "no such field"
    message = error["msg"].removeprefix("Input ")
    return f"{message}, not {error['input']!r}"
