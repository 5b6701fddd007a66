"""Config fields for readers: those that differ from the defaults, and those in which configs differ from each other."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cifar_flax.config import Config
from cifar_flax.config.defaults import Change, changes, default_of, format_value


def changed_fields(config: Config) -> list[tuple[str, str, str]]:
    """Lists the fields that differ from the defaults.

    A list of blocks or layers has a line per entry. Where a spec has another type than the default one, its type is listed,
    and its fields are compared with its own defaults.

    Returns:
      (field, value, default) each, as text: ("optim.clip_norm", "1.0", "none").
    """
    return [row for change in changes(config) for row in _rows(change)]


def differing_fields(values: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Selects the fields in which configs differ.

    Args:
      values: {"config.optim.learning_rate": the value in each config}, None where a config has no such field.

    Returns:
      The same without the prefix `config.` and without the fields that are equal.
    """
    different = {path: list(row) for path, row in values.items() if any(value != row[0] for value in row)}
    # The entries of a list of blocks have paths of their own, but an empty list has none: it is a leaf, and says nothing new.
    return {
        path.removeprefix("config."): row for path, row in different.items() if any(value not in (None, []) for value in row)
    }


def _rows(change: Change) -> Iterator[tuple[str, str, str]]:
    path, value, default = change
    if dataclasses.is_dataclass(value):
        yield path.removesuffix(".type"), type(value).__name__, "" if default is dataclasses.MISSING else type(default).__name__
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        yield from ((f"{path}[{i}]", _format_entry(entry), "") for i, entry in enumerate(value))
    else:
        yield path, format_value(value), "" if default is dataclasses.MISSING else format_value(default)


def _format_entry(entry: Any) -> str:
    """Formats a block or layer in one line: its first field, and the others that differ from their defaults."""
    first, *rest = dataclasses.fields(entry)
    shown = [first, *(field for field in rest if getattr(entry, field.name) != default_of(field))]
    return ", ".join(f"{field.name} {format_value(getattr(entry, field.name))}" for field in shown)
