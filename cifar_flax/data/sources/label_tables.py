"""Tables that name the class of each picture: labels.csv, or train.csv and test.csv, as of Kaggle's competitions."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cifar_flax.data.class_names import checked_names, composed
from cifar_flax.data.sources.named_pictures import NamedPictures
from cifar_flax.data.sources.split_names import SPLIT_OF, SPLITS, split_in_name
from cifar_flax.errors import UserError

FILES = ("file", "filename", "file_name", "filepath", "path", "image", "image_id", "image_path", "img", "picture", "id", "name")
LABELS = ("label", "labels", "class", "class_name", "category", "target", "species", "breed")
SPLIT_COLUMNS = ("split", "set", "subset")
TABLES = (".csv", ".tsv")
MAX_BYTES = 1 << 30  # of a table
SHOWN_COLUMNS, SHOWN_CHARACTERS = 8, 40  # of a header, in a message


class Row(NamedTuple):
    """A row of a table, and the number of its line in the file."""

    line: int
    cells: list[str]


class Columns(NamedTuple):
    """The numbers of the columns of files, labels and, where there is one, splits."""

    file: int
    label: int
    split: int | None = None


class _Labelled(NamedTuple):
    """A table that may name pictures: its columns, the rows that name them, and the number of columns in its first line."""

    columns: Columns
    rows: Sequence[Row]
    width: int

    def names(self) -> list[str]:
        """The names of the files, as they stand."""
        column = self.columns.file
        return [row.cells[column].strip() if column < len(row.cells) else "" for row in self.rows]


@dataclass
class Tables:
    """Contents of the tables in a folder.

    Attributes:
      splits: the files by split and class, sorted, splits in the order of `SPLITS`; empty where no table names classes.
      undivided: whether they say nothing of splits; all pictures are in "train" then.
      left_out: what is not read although it may have been meant to be, in words.
      not_understood: for each table that has no columns of files and labels, or names no picture, the message of an error.
    """

    splits: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    undivided: bool = True
    left_out: list[str] = field(default_factory=list)
    not_understood: list[str] = field(default_factory=list)


def is_table(name: str) -> bool:
    """Whether a file is taken for a table, by its name."""
    return name.lower().endswith(TABLES) and not name.startswith(".")


def tables_in(folder: Path) -> list[Path]:
    """The tables in a folder, sorted."""
    return sorted(path for path in folder.iterdir() if is_table(path.name) and path.is_file())


def read_tables(root: Path) -> Tables:
    """Reads the tables in a folder.

    A table has a header with a column of files (`FILES`), one of labels (`LABELS`) and, if it likes, one of splits
    (`SPLIT_COLUMNS`); of two columns the first may be files and the second labels, whatever they are called, or without a
    header. Files are named with their folder, relative to this one or absolute, or without; with their suffix or without; of
    files that share a name, a table called train.csv, or a row of that split, means the one in train/. A table whose files
    are the names of folders CLASS/ is about the classes, and left out.

    The split of a picture is that of its row; else that of the table, where there are several, called like train.csv or
    test_labels.csv; else that of its folder, in train/ or test/.

    Raises:
      OSError: a file cannot be read.
      UserError: a table is damaged, names pictures of which some are not there, or names one twice; or none of them is to be
        trained on.
    """
    tables, paths = Tables(), tables_in(root)
    if not paths:
        return tables
    pictures, labelled = NamedPictures(root), dict[Path, _Labelled]()
    forms = [path for path in paths if "submission" in path.name.lower()]  # of Kaggle, with a label for each test picture
    contents = {path: list(_rows(path)) for path in paths if path not in forms}
    labels_named = any(_column(rows[0].cells, LABELS) is not None for rows in contents.values() if rows)
    for path, rows in contents.items():
        if (understood := _understood(rows, pictures, labels_named)) is None:
            tables.left_out.append(f"{path.name} (no column of labels)" if rows[1:] else f"{path.name} (empty)")
            tables.not_understood.append(f"{path}: {_expected(rows)}")
        elif not any(map(pictures.may_be_named, names := understood.names())):
            tables.left_out.append(f"{path.name} (names no picture)")
            tables.not_understood.append(pictures.missing(path, understood.rows[0].line, names[0]))
        elif pictures.are_classes(names):
            tables.left_out.append(f"{path.name} (folders name the classes)")
        else:
            labelled[path] = understood
    tables.left_out += [f"{path.name} (a form for submissions)" for path in forms]
    if labelled:
        _assign(root, tables, labelled, pictures)
    return tables


def _assign(root: Path, tables: Tables, labelled: dict[Path, _Labelled], pictures: NamedPictures) -> None:
    """Fills in the splits that the rows name."""
    classes = dict[str, None]()
    for path, table in labelled.items():
        of_table = _split_of_table(path.stem)
        for row in table.rows:
            _check_width(path, row, table)
            of_row = _split_of_row(path, row, table.columns)
            picture = pictures.take(path, row.line, row.cells[table.columns.file].strip(), of_row or of_table)
            said = of_row or (of_table if len(labelled) > 1 else None)
            split = said or pictures.split_of(picture)
            tables.undivided &= said is None and split in (None, "train")
            if not (name := composed(row.cells[table.columns.label].strip())):
                raise UserError(f"{path}, line {row.line}: the label is empty; expected the name of a class")
            classes[name] = None
            tables.splits.setdefault(split or "train", {}).setdefault(name, []).append(picture)
    if "train" not in tables.splits:
        raise UserError(
            f"{root}: the pictures that {', '.join(path.name for path in labelled)} names are all of the split "
            f"{' or '.join(tables.splits)}; expected some to train on, in train/ or with train in a column split"
        )
    names = dict(zip(classes, checked_names(str(root), classes), strict=True))
    in_order = sorted(classes, key=int) if all(map(str.isdecimal, classes)) else sorted(classes)  # label 3 is class 3
    tables.splits = {
        split: {names[name]: sorted(tables.splits[split][name]) for name in in_order if name in tables.splits[split]}
        for split in SPLITS
        if split in tables.splits
    }
    if pictures.unused:
        tables.left_out.append(f"{pictures.unused:,} pictures that no table names")


def _check_width(path: Path, row: Row, table: _Labelled) -> None:
    """Refuses a row that is too short, and one with more cells than the header: a label that holds a comma would be cut."""
    if len(row.cells) <= max(table.columns.file, table.columns.label, table.columns.split or 0):
        raise UserError(f"{path}, line {row.line}: has {len(row.cells)} columns, fewer than the header")
    if any(cell.strip() for cell in row.cells[table.width :]):
        raise UserError(
            f"{path}, line {row.line}: has {len(row.cells)} columns, and the first line {table.width}; "
            'put double quotes around a text that holds what separates columns, as in "a, b"'
        )


def _split_of_row(path: Path, row: Row, columns: Columns) -> str | None:
    """The split that a row names; None in a table without a column of splits."""
    if columns.split is None:
        return None
    if (split := SPLIT_OF.get(row.cells[columns.split].strip().lower())) is None:
        raise UserError(f"{path}, line {row.line}: the split {row.cells[columns.split]!a}; expected train, validation or test")
    return split


def _rows(path: Path) -> Iterator[Row]:
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: has {path.stat().st_size:,} bytes, far more than a table of pictures can need")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sample = file.read(4096)
            file.seek(0)
            delimiter = max(",;\t", key=sample.partition("\n")[0].count)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            yield from (Row(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
    except (UnicodeDecodeError, csv.Error) as e:
        raise UserError(
            f"{path}: no CSV file in UTF-8 ({e}); save it as one, or remove it if it does not name the pictures"
        ) from None


def _understood(rows: Sequence[Row], pictures: NamedPictures, labels_named: bool) -> _Labelled | None:
    """The columns, and the rows that name pictures; None where there are none.

    Args:
      rows: of the table, a header among them.
      pictures: in the folder.
      labels_named: whether some table of the folder has a column called as in `LABELS`; then no other is taken for labels.
    """
    header = rows[0].cells if rows else []
    file, label, split = (_column(header, usual) for usual in (FILES, LABELS, SPLIT_COLUMNS))
    if file is not None and label is not None:
        return _Labelled(Columns(file, label, split), rows[1:], len(header)) if rows[1:] else None
    if len(header) != 2 or split is not None or (labels_named and label is None):
        return None
    first = 0 if file is None and label is None else 1  # where neither column has a usual name, this may be no header
    file = 1 - label if label is not None else file or 0
    for start in (first, 1):
        cells = rows[start].cells if rows[start:] else []
        if len(cells) == 2 and pictures.may_be_named(cells[file].strip()):
            return _Labelled(Columns(file, 1 - file), rows[start:], 2)
    return None


def _column(header: list[str], usual: tuple[str, ...]) -> int | None:
    """The number of the column that has the first of the usual names."""
    names = [name.strip().lower().replace(" ", "_") for name in header]
    return next((names.index(name) for name in usual if name in names), None)


def _expected(rows: Sequence[Row]) -> str:
    """The defect of a table that is not understood, and the table that was expected."""
    expected = f"expected pictures in one of {', '.join(FILES)}, and classes in one of {', '.join(LABELS)}"
    if not rows:
        return f"is empty; {expected}"
    if len(rows) == 1:
        return "has a single row; expected a header, and a row for each picture"
    shown = ", ".join(f"{cell[:SHOWN_CHARACTERS]!a}" for cell in rows[0].cells[:SHOWN_COLUMNS])
    return f"has the columns {shown}{', ...' * (len(rows[0].cells) > SHOWN_COLUMNS)}; {expected}; rename its columns"


def _split_of_table(stem: str) -> str | None:
    """The split that a table is of by its name: pets-train.csv, trainLabels.csv, or trainlabels.csv, which only begins so."""
    starts = sorted(SPLIT_OF, key=len, reverse=True)
    return split_in_name(stem) or next((SPLIT_OF[start] for start in starts if stem.lower().startswith(start)), None)
