"""Tables that name the class of each picture: labels.csv, or train.csv and test.csv, as of Kaggle's competitions."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cifar_flax.data.class_names import checked_names
from cifar_flax.data.pictures.files import SUFFIXES, is_picture, pictures_in
from cifar_flax.errors import UserError

SPLIT_OF = {  # a folder or a table of this name, in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SPLITS = ("train", "validation", "test")
FILES = ("file", "filename", "file_name", "filepath", "path", "image", "image_id", "image_path", "img", "picture", "id", "name")
LABELS = ("label", "labels", "class", "class_name", "category", "target", "species", "breed")
SPLIT_COLUMNS = ("split", "set", "subset")
TABLES = (".csv", ".tsv")
MAX_BYTES = 1 << 30  # of a table
SHOWN = 4  # suffixes in a message
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


@dataclass
class Tables:
    """What the tables in a folder say.

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
    files that share a name, a table called train.csv means the one in train/. Of several tables, those whose names begin like
    train, val or test are of that split.

    Raises:
      OSError: a file cannot be read.
      UserError: a table is damaged, names pictures of which some are not there, or names one twice.
    """
    tables, paths = Tables(), tables_in(root)
    if not paths:
        return tables
    pictures, labelled = _Pictures(root), dict[Path, tuple[Columns, Sequence[Row]]]()
    forms = [path for path in paths if "submission" in path.name.lower()]  # of Kaggle, with a label for each test picture
    contents = {path: list(_rows(path)) for path in paths if path not in forms}
    labels_named = any(_column(rows[0].cells, LABELS) is not None for rows in contents.values() if rows)
    for path, rows in contents.items():
        if (understood := _understood(rows, pictures, labels_named)) is None:
            tables.left_out.append(f"{path.name} (no column of labels)" if rows[1:] else f"{path.name} (empty)")
            tables.not_understood.append(f"{path}: {_expected(rows)}")
        elif not any(pictures.may_be_named(_cell(cells, understood[0].file)) for _, cells in understood[1]):
            line, cells = understood[1][0]
            tables.left_out.append(f"{path.name} (names no picture)")
            tables.not_understood.append(pictures.missing(path, line, _cell(cells, understood[0].file)))
        else:
            labelled[path] = understood
    tables.left_out += [f"{path.name} (a form for submissions)" for path in forms]
    if labelled:
        _assign(root, tables, labelled, pictures)
    return tables


def _assign(root: Path, tables: Tables, labelled: dict[Path, tuple[Columns, Sequence[Row]]], pictures: "_Pictures") -> None:
    """Fills in the splits that the rows name."""
    classes = dict[str, None]()
    for path, (columns, rows) in labelled.items():
        named = _split_named(path.stem)
        of_file = named if len(labelled) > 1 else None
        for line, cells in rows:
            if len(cells) <= max(columns.file, columns.label, columns.split or 0):
                raise UserError(f"{path}, line {line}: has {len(cells)} columns, fewer than the header")
            split = of_file
            if columns.split is not None:
                split = SPLIT_OF.get(cells[columns.split].strip().lower())
                if split is None:
                    raise UserError(
                        f"{path}, line {line}: the split {cells[columns.split]!a}; expected train, validation or test"
                    )
            tables.undivided &= split is None
            if not (name := cells[columns.label].strip()):
                raise UserError(f"{path}, line {line}: the label is empty; expected the name of a class")
            classes[name] = None
            by_class = tables.splits.setdefault(split or "train", {})
            by_class.setdefault(name, []).append(pictures.take(path, line, cells[columns.file].strip(), named))
    names = dict(zip(classes, checked_names(str(root), classes), strict=True))
    tables.splits = {
        split: {names[name]: sorted(files) for name, files in sorted(tables.splits[split].items())}
        for split in SPLITS
        if split in tables.splits
    }
    if pictures.unused:
        tables.left_out.append(f"{pictures.unused:,} pictures that no table names")


def _rows(path: Path) -> Iterator[Row]:
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: has {path.stat().st_size:,} bytes, far more than a table of pictures can need")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sample = file.read(4096)
            file.seek(0)
            delimiter = max(",;\t", key=sample.partition("\n")[0].count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            yield from (Row(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
    except (UnicodeDecodeError, csv.Error) as e:
        raise UserError(
            f"{path}: no CSV file in UTF-8 ({e}); save it as one, or remove it if it does not name the pictures"
        ) from None


def _understood(rows: Sequence[Row], pictures: "_Pictures", labels_named: bool) -> tuple[Columns, Sequence[Row]] | None:
    """The columns, and the rows that name pictures; None where there are none.

    Args:
      rows: of the table, a header among them.
      pictures: in the folder.
      labels_named: whether some table of the folder has a column called as in `LABELS`; then no other is taken for labels.
    """
    header = rows[0].cells if rows else []
    file, label, split = (_column(header, usual) for usual in (FILES, LABELS, SPLIT_COLUMNS))
    if file is not None and label is not None:
        return (Columns(file, label, split), rows[1:]) if rows[1:] else None
    if len(header) != 2 or split is not None or (labels_named and label is None):
        return None
    first = 0 if file is None and label is None else 1  # where neither column has a usual name, this may be no header
    file = 1 - label if label is not None else file or 0
    for start in (first, 1):
        cells = rows[start].cells if rows[start:] else []
        if len(cells) == 2 and pictures.may_be_named(cells[file].strip()):
            return Columns(file, 1 - file), rows[start:]
    return None


def _cell(cells: list[str], column: int) -> str:
    return cells[column].strip() if column < len(cells) else ""


def _column(header: list[str], usual: tuple[str, ...]) -> int | None:
    """The number of the column that has the first of the usual names."""
    names = [name.strip().lower().replace(" ", "_") for name in header]
    return next((names.index(name) for name in usual if name in names), None)


def _expected(rows: Sequence[Row]) -> str:
    """What is wrong with a table that is not understood, and what was expected."""
    expected = f"expected pictures in one of {', '.join(FILES)}, and classes in one of {', '.join(LABELS)}"
    if not rows:
        return f"is empty; {expected}"
    if len(rows) == 1:
        return "has a single row; expected a header, and a row for each picture"
    shown = ", ".join(f"{cell[:SHOWN_CHARACTERS]!a}" for cell in rows[0].cells[:SHOWN_COLUMNS])
    return f"has the columns {shown}{', ...' * (len(rows[0].cells) > SHOWN_COLUMNS)}; {expected}; rename its columns"


def _split_named(stem: str) -> str | None:
    """The split that a file's name begins with: train.csv, trainLabels.csv, val_labels.csv."""
    starts = sorted(SPLIT_OF, key=len, reverse=True)
    return next((SPLIT_OF[start] for start in starts if stem.lower().startswith(start)), None)


class _Pictures:
    """The pictures below a folder, found by the names that tables use, each once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_name: dict[str, Path | None] = {}  # None where several have the name
        self._taken: dict[Path, str] = {}
        paths = [path for path in pictures_in(root) if path.is_file()]
        self._count, self._folders = len(paths), [entry.name for entry in root.iterdir() if entry.is_dir()]
        for path in paths:
            relative = path.relative_to(root)
            for name in {str(relative), str(relative.with_suffix("")), path.name, path.stem}:
                self._by_name[name] = None if name in self._by_name else path
        for path in paths:
            self._by_name[str(path.relative_to(root))] = path

    @property
    def unused(self) -> int:
        """How many have not been taken."""
        return self._count - len(self._taken)

    def may_be_named(self, name: str) -> bool:
        """Whether a name is that of a picture here, or of a file that would be one."""
        return is_picture(name) or self._relative(name) in self._by_name

    def _relative(self, name: str) -> str:
        """A name as those of the pictures are spelt: relative to the folder, with slashes."""
        plain = name if name in self._by_name else name.replace("\\", "/").removeprefix("./")
        for root in (os.path.abspath(self._root), os.path.realpath(self._root)):
            plain = plain.removeprefix(f"{root}/")
        return plain

    def missing(self, table: Path, line: int, name: str) -> str:
        """The message where a line of a table names a picture that is not here."""
        known = f"expected a picture below {self._root}, with or without {', '.join(SUFFIXES[:SHOWN])} and so on"
        return f"{table}, line {line}: there is no picture {name!a}; {known}"

    def take(self, table: Path, line: int, name: str, split: str | None) -> Path:
        """The picture that a line of a table names; a table of a split means the one in the folder of that split."""
        where = f"{table}, line {line}"
        plain = self._relative(name)
        in_split = (f"{folder}/{plain}" for folder in self._folders if split and SPLIT_OF.get(folder.lower()) == split)
        plain = next((each for each in in_split if each in self._by_name), plain)
        if plain not in self._by_name:
            raise UserError(self.missing(table, line, name))
        path = self._by_name[plain]
        if path is None:
            raise UserError(f"{where}: there are several pictures {name!a}; write their folder before their name")
        if path in self._taken:
            raise UserError(f"{where}: {name!a} is named a second time, after {self._taken[path]}")
        self._taken[path] = where
        return path
