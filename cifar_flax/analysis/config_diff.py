"""Config fields as people are told them: those that are not the default, and those in which configs differ."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cifar_flax.config import Config

NONE = "none"  # as flags have it


def changed_fields(config: Config) -> list[tuple[str, str, str]]:
    """(field, value, default) of what is not the default; a block or layer, of which there are none by default, in one line."""
    return list(_changed(config, Config(), ""))


def differing_fields(values: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Of {"config.optim.learning_rate": a value a config}, the fields that differ, without `config.`; None is no such field."""
    different = {path: list(row) for path, row in values.items() if any(value != row[0] for value in row)}
    # A list of blocks is a field itself only where it is empty.
    return {
        path.removeprefix("config."): row for path, row in different.items() if any(value not in (None, []) for value in row)
    }


def in_words(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or NONE
    return NONE if value is None else str(value)


def _changed(section: Any, default: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    for field in dataclasses.fields(section):
        name, value, usual = prefix + field.name, getattr(section, field.name), getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            yield from _changed(value, usual, f"{name}.")
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            yield from ((f"{name}[{i}]", _entry(entry), "") for i, entry in enumerate(value))
        elif value != usual:
            yield name, in_words(value), in_words(usual)


def _entry(entry: Any) -> str:
    """A block or layer in one line: its first field, and what of the rest is not its own default."""
    first, *rest = dataclasses.fields(entry)
    shown = [first, *(field for field in rest if getattr(entry, field.name) != field.default)]
    return ", ".join(f"{field.name} {in_words(getattr(entry, field.name))}" for field in shown)
