"""Configs to JSON and back, checked on the way, and the fields in which two of them differ."""

import dataclasses
import enum
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cifar_flax.config.schema import Config
from cifar_flax.config.specs import Spec, type_path
from cifar_flax.config.validate import validate
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed

FLOAT32_TINY = float(np.finfo(np.float32).tiny)  # the smallest normal number; XLA takes smaller ones for 0
FLOAT32_MAX = float(np.finfo(np.float32).max)
WHOLE, NUMBER = "Input should be a valid integer", "Input should be a valid number"  # pydantic's; the second includes the first
UNPAIRED_SURROGATE = re.compile("[\ud800-\udfff]")  # a byte on the command line that is not UTF-8, as Python decodes it


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested dicts and lists of JSON's own types; a spec begins with its `type`, an import path.

    Raises:
      ConfigError: a value is of another kind, such as a function; or of a class that another process could not import.
    """
    return _plain(config)


def _plain(value: Any, path: str = "config") -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        values: dict[str, Any] = {"type": type_path(type(value))} if isinstance(value, Spec) else {}
        return values | {f.name: _plain(getattr(value, f.name), f"{path}.{f.name}") for f in _kept_fields(value)}
    if isinstance(value, dict):
        return {name: _plain(inner, f"{path}.{name}") for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{path}[{i}]") for i, inner in enumerate(value)]
    plain = value.value if isinstance(value, enum.Enum) else value.item() if isinstance(value, np.generic) else value
    if plain is None or isinstance(plain, str | int | float):
        return plain
    name = str(value) if isinstance(value, enum.Enum) else getattr(value, "__name__", type(value).__name__)
    raise ConfigError(
        f"{path}: a config keeps text, numbers, booleans, enums of these, and tuples, lists, dicts and dataclasses of all, "
        f"not {name}; name a function or a class by text"
    )


def _kept_fields(value: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that its constructor takes; it computes the others."""
    return [f for f in dataclasses.fields(value) if f.init]


def from_dict(values: dict[str, Any]) -> Config:
    """Builds a Config from a result of `to_dict`, with the type and range of every field checked.

    Raises:
      ConfigError: an unknown field, a wrong type, a number out of its range, or `validate` refuses it.
    """
    text = json.dumps(values)
    try:
        config = _adapter().validate_json(text)
    except ValidationError as e:
        if e.errors()[0]["type"] == "json_invalid":  # though `json` wrote it
            raise ConfigError(_explain_invalid(text)) from None
        raise ConfigError(_explain(e.errors(), values)) from None
    _check_float32(config)
    validate(config)
    return config


def check_fields(config: Config) -> None:
    """Checks the type and range of each field but those of the network and the optimizer; that takes no JAX.

    Raises:
      ConfigError: a wrong type, or a number out of its range.
    """
    values = to_dict(config)
    try:
        _adapter().validate_json(json.dumps(values))
    except ValidationError as e:
        if errors := [error for error in e.errors() if error["loc"] and error["loc"][0] not in ("model", "optim")]:
            raise ConfigError(_explain(errors, values)) from None


def _explain_invalid(text: str) -> str:
    """Names the field at fault in a text that Python's `json` writes and other readers refuse: mostly names of files."""
    for path, value in flatten_config(json.loads(text)):
        if UNPAIRED_SURROGATE.search("".join(map(str, value)) if isinstance(value, list) else str(value)):
            return f"{path}: should be text in UTF-8, not {value!r}"
    return "config: a value in it is nested too deeply"


def _check_float32(config: Config) -> None:
    """Refuses numbers that float32, in which all is computed, rounds to 0, to 1 or to infinity."""
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
    """The same config with every value of its declared type, for configs that a file or flags have put together.

    Raises:
      ConfigError: as `to_dict` and `from_dict`; or a later command would read another value in config.json.
    """
    result = from_dict(to_dict(config))
    _check_unchanged(config, result)
    return result


def _check_unchanged(before: Any, after: Any, path: str = "config") -> None:
    """Refuses what JSON does not bring back.

    A list may become a tuple, a tuple a list, text an enum, and a dict a dataclass, as the fields are declared.
    """
    if dataclasses.is_dataclass(before):
        kind = type(before).__name__
        if type(before) is not type(after):
            raise ConfigError(
                f"{path}: a {kind} reads back from JSON as a {type(after).__name__}; declare the field with all its classes, "
                f"and give each of them a field such as kind: Literal['{kind.lower()}'] = '{kind.lower()}'"
            )
        for f in _kept_fields(before):
            _check_unchanged(getattr(before, f.name), getattr(after, f.name), f"{path}.{f.name}")
    elif isinstance(before, list | tuple):
        for i, (inner, read) in enumerate(zip(before, after, strict=True)):
            _check_unchanged(inner, read, f"{path}[{i}]")
    elif isinstance(before, dict) and dataclasses.is_dataclass(after):
        pass  # its fields, by name
    elif isinstance(before, dict) and before.keys() == after.keys():
        for name, inner in before.items():
            _check_unchanged(inner, after[name], f"{path}.{name}")
    elif not _same(before, after):
        raise ConfigError(f"{path}: {before!r} reads back from JSON as {after!r}; declare the field with its type")


def _same(before: Any, after: Any) -> bool:
    if isinstance(after, enum.Enum):
        return before is after if isinstance(before, enum.Enum) else bool(before == after.value)
    return bool(before == after)


def write_config(config: Config, path: Path) -> None:
    """Writes `config` as JSON."""
    write_text(path, dumps_checksummed(to_dict(config)))


def read_config(path: Path) -> Config:
    """Reads a config that `write_config` wrote.

    Raises:
      UserError: the file is missing, cannot be read, is damaged, or not a config.
    """
    try:
        return from_dict(read_checksummed(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is {path.parent} a run directory?") from None
    except ValueError as e:
        raise UserError(f"{path}: damaged: {e}; remove it, and the command that trains the run writes it anew") from None
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from None
    except UserError as e:
        raise UserError(f"{path}: {e}") from None


def flatten_config(values: Any, path: str = "config", entries: bool = True) -> Iterator[tuple[str, Any]]:
    """Yields (path, value) of every leaf in a result of `to_dict`: `config.model.blocks[0].dropout`, .1.

    Args:
      values: result of `to_dict`, or a part of it.
      path: of `values`.
      entries: whether the fields of an entry of a list, such as a block, are leaves of their own; otherwise the list is one.
    """
    if isinstance(values, dict):
        for name, value in values.items():
            yield from flatten_config(value, f"{path}.{name}", entries)
    elif entries and isinstance(values, list) and any(isinstance(value, dict) for value in values):
        for i, value in enumerate(values):
            yield from flatten_config(value, f"{path}[{i}]")
    else:
        yield path, values


def differences(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """Leaves in which `a` and `b` differ: {path: (value in a, value in b)}, None where one has no such leaf."""
    leaves = [dict(flatten_config(to_dict(config))) for config in (a, b)]
    return {path: (old, new) for path, (old, new) in differing_leaves(leaves).items()}


def differing_leaves(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """As `differences`, of any number of configs as `flatten_config` has them."""
    paths = dict.fromkeys(path for config in configs for path in config)
    values = {path: [config.get(path) for config in configs] for path in paths}
    return {path: row for path, row in values.items() if any(value != row[0] for value in row)}


def _explain(errors: Sequence[Any], values: Any) -> str:
    """A line for the first field at fault; a field of several types has an error for each of them."""
    location, value = _location(errors[0]["loc"], values)
    names = (part if isinstance(part, int) or part.isidentifier() else repr(part) for part in location)
    path = "config" + "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)
    if errors[0]["type"] == "unexpected_keyword_argument":
        return f"{path}: no such field"
    if errors[0]["type"] == "spec":
        return f"{path}: {errors[0]['msg']}"
    messages = [error["msg"] for error in errors if _location(error["loc"], values)[0] == location]
    if NUMBER in messages:
        messages = [message for message in messages if message != WHOLE]
    first, *others = messages
    expected = " or ".join([first.removeprefix("Input "), *(other.removeprefix("Input should be ") for other in others)])
    return f"{path}: {expected}, not {value!r}"


def _location(location: tuple[int | str, ...], values: Any) -> tuple[tuple[int | str, ...], Any]:
    """The location without the types of a union that pydantic appends, and the value there."""
    for i, part in enumerate(location):
        if isinstance(values, list) and isinstance(part, int):
            values = values[part]
        elif isinstance(values, dict):
            values = values.get(str(part))
        else:
            return location[:i], values
    return location, values
