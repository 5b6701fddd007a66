"""CSV files that name the class of each picture: labels.csv, or train.csv and test.csv, as of Kaggle's competitions."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cifar_flax.data.class_names import checked_names
from cifar_flax.data.pictures.files import SUFFIXES, is_picture
from cifar_flax.errors import UserError

SPLIT_OF = {  # a folder or a CSV file of this name, in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SPLITS = ("train", "validation", "test")
FILES = ("file", "filename", "file_name", "filepath", "path", "image", "image_id", "image_path", "img", "picture", "id", "name")
LABELS = ("label", "labels", "class", "class_name", "category", "target", "species", "breed")
SPLIT_COLUMNS = ("split", "set", "subset")
MAX_BYTES = 1 << 30  # of a table
SHOWN = 4  # names in a message


@dataclass
class Tables:
    """What CSV files say.

    Attributes:
      splits: the files by split and class, sorted, splits in the order of `SPLITS`.
      undivided: whether they say nothing of splits; all pictures are in "train" then.
      left_out: what is not read although it may have been meant to be, in words.
    """

    splits: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    undivided: bool = True
    left_out: list[str] = field(default_factory=list)


def read_tables(root: Path) -> Tables | None:
    """Reads the CSV files in a folder; None where there is none with a column of labels.

    A table has a header with a column of files (`FILES`), one of labels (`LABELS`) and, if it likes, one of splits
    (`SPLIT_COLUMNS`); of two columns the first are files and the second labels, whatever they are called. Files are named with
    their folder, relative to this one, or without; with their suffix or without; of files that share a name, a table called
    train.csv means the one in train/. Of several tables, those whose names begin like train, val or test are of that split.

    Raises:
      OSError: a file cannot be read.
      UserError: a table is damaged, names pictures that are not there, or names one twice.
    """
    tables, labelled = Tables(), dict[Path, tuple[list[list[str]], tuple[int, int, int | None]]]()
    for path in sorted(root.glob("*.csv")):
        rows = list(_rows(path))
        columns = _columns(rows[0]) if rows else None
        if "submission" in path.name.lower():
            tables.left_out.append(f"{path.name} (a form for submissions)")  # of Kaggle, with a label for each test picture
        elif columns is None:
            tables.left_out.append(f"{path.name} (no column of labels)")
        else:
            labelled[path] = (rows[1:], columns)
    if not labelled:
        return None
    pictures, classes = _Pictures(root), dict[str, None]()
    for path, (rows, (file, label, split_column)) in labelled.items():
        named = _split_named(path.stem)
        of_file = named if len(labelled) > 1 else None
        for number, row in enumerate(rows, 2):
            if len(row) <= max(file, label, split_column or 0):
                raise UserError(f"{path}, line {number}: has {len(row)} columns, fewer than the header")
            split = of_file if split_column is None else SPLIT_OF.get(row[split_column].strip().lower())
            if split_column is not None and split is None:
                raise UserError(f"{path}, line {number}: the split {row[split_column]!a}; expected train, validation or test")
            tables.undivided &= split is None
            name = row[label].strip()
            classes[name] = None
            by_class = tables.splits.setdefault(split or "train", {})
            by_class.setdefault(name, []).append(pictures.take(path, number, row[file].strip(), named))
    names = dict(zip(classes, checked_names(str(root), classes), strict=True))
    tables.splits = {
        split: {names[name]: sorted(files) for name, files in sorted(tables.splits[split].items())}
        for split in SPLITS
        if split in tables.splits
    }
    if pictures.unused:
        tables.left_out.append(f"{pictures.unused:,} pictures that no table names")
    return tables


def _rows(path: Path) -> Iterator[list[str]]:
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: has {path.stat().st_size:,} bytes, far more than a table of pictures can need")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sample = file.read(4096)
            file.seek(0)
            delimiter = max(",;\t", key=sample.partition("\n")[0].count)
            yield from (row for row in csv.reader(file, delimiter=delimiter, strict=True) if any(cell.strip() for cell in row))
    except (UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{path}: no CSV file in UTF-8 ({e})") from None


def _columns(header: list[str]) -> tuple[int, int, int | None] | None:
    """The numbers of the columns of files, labels and, where there is one, splits."""
    names = [name.strip().lower().replace(" ", "_") for name in header]

    def find(usual: tuple[str, ...]) -> int | None:
        return next((names.index(name) for name in usual if name in names), None)

    file, label, split = find(FILES), find(LABELS), find(SPLIT_COLUMNS)
    if label is None and len(names) == 2 and split is None:
        file, label = 0, 1
    if file is None and label is not None and len(names) == 2:
        file = 1 - label
    return None if file is None or label is None or file == label else (file, label, split)


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
        paths = [path for path in sorted(root.rglob("*")) if is_picture(path.name) and path.is_file()]
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

    def take(self, table: Path, number: int, name: str, split: str | None) -> Path:
        """The picture that a line of a table names; a table of a split means the one in the folder of that split."""
        where = f"{table}, line {number}"
        plain = name.removeprefix("./")
        in_split = (f"{folder}/{plain}" for folder in self._folders if split and SPLIT_OF.get(folder.lower()) == split)
        plain = next((each for each in in_split if each in self._by_name), plain)
        if plain not in self._by_name:
            known = f"expected a picture below {self._root}, with or without {', '.join(SUFFIXES[:SHOWN])} and so on"
            raise UserError(f"{where}: there is no picture {name!a}; {known}")
        path = self._by_name[plain]
        if path is None:
            raise UserError(f"{where}: there are several pictures {name!a}; write their folder before their name")
        if path in self._taken:
            raise UserError(f"{where}: {name!a} is named a second time, after {self._taken[path]}")
        self._taken[path] = where
        return path
