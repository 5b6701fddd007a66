"""The classes that a column of several Parquet or Arrow files names, by number or as text."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cifar_flax.data.class_names import checked_names, composed
from cifar_flax.data.sources.column_files import ColumnFile
from cifar_flax.errors import UserError

SHOWN_CHARACTERS = 40  # of a label, in a message


def read_classes(
    where: str, files: Mapping[str, Sequence[ColumnFile]], column: str
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Reads a column of labels.

    Numbers mean the names that their own file has for them: each may have been numbered separately. A file that has no names
    is numbered as the first that has some. Where no file has any, the texts or numbers that occur are the classes.

    Args:
      where: for messages.
      files: of each split, in the order of the rows; train is the first split.
      column: its name.

    Returns:
      The names of the classes, and the labels of each split, int32 [rows].

    Raises:
      UserError: a file has a class that the first with names has not, or a label that is of no class.
    """
    values = {file: list(map(as_int, file.values(column))) for of_split in files.values() for file in of_split}
    first = next((file for file in values if file.class_names(column)), None)
    if first is None:
        occurring = _occurring(where, column, values.values())
        names = checked_names(f"{where}: {column}", map(str, occurring))
        numbering = {value: i for i, value in enumerate(occurring)}
        numberings = dict.fromkeys(values, numbering)
    else:
        names = checked_names(f"{first.path}: {column}", first.class_names(column))
        numberings = {file: _numbering(file, column, names, first) for file in values}
    labels = {file: _labels(file, column, rows, numberings[file], len(names)) for file, rows in values.items()}
    return names, {split: np.concatenate([labels[file] for file in of_split]) for split, of_split in files.items()}


def _numbering(file: ColumnFile, column: str, names: tuple[str, ...], first: ColumnFile) -> dict[Any, int]:
    """The class of each number and name in a file, by the names that it has for the numbers."""
    place: dict[Any, int] = {name: i for i, name in enumerate(names)}
    own = [composed(name) for name in file.class_names(column)] or names
    if missing := [name for name in own if name not in place]:
        raise UserError(
            f"{file.path}: {column} has the class {_shown(missing[0])}, which {first.path} has not; "
            "write all files with the same names of classes"
        )
    return {number: place[name] for number, name in enumerate(own)} | place


def _occurring(where: str, column: str, values: Iterable[Sequence[Any]]) -> list[Any]:
    """The texts or numbers that occur, sorted."""
    different = {composed(value) if isinstance(value, str) else value for rows in values for value in rows}
    if None in different:
        raise UserError(f"{where}: {column} has rows without a label; remove them")
    if not all(isinstance(value, int | str) for value in different):
        raise UserError(f"{where}: {column} has values that are neither text nor whole numbers")
    if len({isinstance(value, str) for value in different}) > 1:
        raise UserError(f"{where}: {column} has text in some files and numbers in others; write all files with the same labels")
    if negative := [value for value in different if isinstance(value, int) and value < 0]:
        raise UserError(
            f"{where}: {column} has the label {min(negative)}, expected none below 0; remove the rows without a label"
        )
    return sorted(different)


def _labels(file: ColumnFile, column: str, values: Sequence[Any], numbering: Mapping[Any, int], classes: int) -> np.ndarray:
    labels = [numbering.get(composed(value) if isinstance(value, str) else value, -1) for value in values]
    if -1 in labels:
        row = labels.index(-1)
        raise UserError(
            f"{file.path}: {column} has the label {_shown(values[row])} in row {row}, expected the name of a class or a number "
            f"from 0 to {classes - 1}; remove the rows without a label"
        )
    return np.array(labels, np.int32)


def as_int(value: Any) -> Any:
    """A whole number that is stored as a float, as pandas does where a row has none, as an int; NaN as None."""
    if not isinstance(value, float) or math.isinf(value):
        return value
    return None if math.isnan(value) else int(value) if value.is_integer() else value


def _shown(value: Any) -> str:
    return ascii(value)[:SHOWN_CHARACTERS]
