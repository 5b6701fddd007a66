"""The fields of a config that differ from their defaults, and values as text."""

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from cifar_flax.config.schema import Config

NONE = "none"  # as on the command line


class Change(NamedTuple):
    """A field that differs from its default.

    Attributes:
      path: such as "optim.clip_norm". That of a spec of another class than the default one ends in `.type`.
      value: of the field; or the spec.
      default: MISSING, of `dataclasses`, where it has none.
    """

    path: str
    value: Any
    default: Any


def changes(config: Config) -> list[Change]:
    """Lists the fields that differ from the defaults; a list of blocks or layers is one field.

    Where a spec is of another class than the default one, that is a change, and its fields are compared with the defaults of
    its own class.
    """
    return list(_changes(config, Config(), ""))


def changed_fields(config: Config) -> list[tuple[str, str, str]]:
    """Lists the fields that differ from the defaults.

    A list of blocks or layers has a line per entry. Where a spec has another type than the default one, its type is listed,
    and its fields are compared with its own defaults.

    Returns:
      (field, value, default) each, as text: ("optim.clip_norm", "1.0", "none").
    """
    return [row for change in changes(config) for row in _rows(change)]


def is_part_of(path: str, fields: Collection[str]) -> bool:
    """Whether a path, such as "model.blocks[0].pool", is one of the fields or lies within one, such as "model.blocks"."""
    return any(path == field or path.startswith((f"{field}.", f"{field}[")) for field in fields)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field, MISSING where it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def format_value(value: Any) -> str:
    """Formats a value of a config or of environment.json in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or NONE
    return NONE if value is None else str(value)


def _changes(section: Any, reference: Any, prefix: str) -> Iterator[Change]:
    """Compares the fields of a section with those of `reference`, or with its own defaults where that has another class."""
    same_class = type(section) is type(reference)
    if not same_class:
        yield Change(f"{prefix}type", section, reference)
    for field in dataclasses.fields(section):
        path, value = prefix + field.name, getattr(section, field.name)
        default = getattr(reference, field.name) if same_class else default_of(field)
        if dataclasses.is_dataclass(value):
            yield from _changes(value, default, f"{path}.")
        elif value != default:
            yield Change(path, value, default)


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
