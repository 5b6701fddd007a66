"""Data sets as Hugging Face has them: Parquet files of its Hub, and Arrow files that its library `datasets` writes."""

import itertools
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cifar_flax.data import cache
from cifar_flax.data.class_names import checked_names
from cifar_flax.data.dataset import Dataset, check_memory, checked_labels
from cifar_flax.data.pictures.isolated import shared_decoder
from cifar_flax.data.sources.folders import DEFAULT_SIZE, as_test_split, warn_of_unlabelled_test_split
from cifar_flax.data.sources.label_tables import SPLIT_OF, SPLITS
from cifar_flax.errors import UserError
from cifar_flax.files.installation import install_command

PREFIX = "hf:"  # of config.data.name
SUFFIXES = (".parquet", ".arrow")
WORD = re.compile(r"[a-z]+")  # of a file's name: cifar100-train.arrow, train-00000-of-00001.parquet
IMAGES = ("img", "image", "images", "picture", "photo")  # names of columns, the first that is there
LABELS = ("fine_label", "label", "labels", "class", "target", "category")
COARSE = ("coarse_label", "superclass")
AT_ONCE = 4096  # pictures that are written to a temporary file, from which child processes read them


class HubSource:
    """`hf:USER/NAME` or `hf:USER/NAME:CONFIG` as a source of the data registry: what the library `datasets` downloads, once."""

    def __init__(self, name: str, image_size: int | None = None) -> None:
        self.identity, self.image_size = name, image_size
        repository, _, config = name.removeprefix(PREFIX).partition(":")
        self._repository, self._config = repository, config or None

    def key(self) -> str:
        """The entry's name."""
        return cache.key_of(self.identity, self.image_size)

    def version(self) -> None:
        """Any entry is up to date."""

    def build(self) -> None:
        """Downloads the set into the cache of `datasets`, and copies it into ours.

        Raises:
          UserError: `datasets` is missing, or cannot get the set.
        """
        try:
            import datasets  # type: ignore[import-not-found]  # heavy, and an extra
        except ImportError:
            raise UserError(f"{self.identity}: takes the library datasets; type  {install_command('huggingface')}") from None
        try:
            builder = datasets.load_dataset_builder(self._repository, self._config)
            builder.download_and_prepare()
        except Exception as e:  # whatever it, the Hub's client or the network raise
            raise UserError(
                f"{self.identity}: cannot be fetched from the Hugging Face Hub ({type(e).__name__}: {_line(e)})"
            ) from None
        folder = Path(builder.cache_dir)
        splits = read(folder, files_in(folder), self.image_size)
        cache.write(self.key(), splits, f"Hugging Face Hub, {self.identity}", self.identity)


class _Columns(NamedTuple):
    """Names of the columns that are read, and the classes that the file's metadata name; empty where they name none."""

    images: str
    labels: str
    coarse: str | None
    class_names: tuple[str, ...]
    coarse_names: tuple[str, ...]


def files_in(path: Path) -> list[Path]:
    """The Parquet and Arrow files in a folder and below, sorted, without what `datasets` keeps of computed columns."""
    return sorted(
        file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith((".", "cache-"))
    )


def read(path: Path, files: Sequence[Path], image_size: int | None = None, origin: Path | None = None) -> dict[str, Dataset]:
    """Reads the splits of a data set.

    A file belongs to the split that its name or, else, its folder names, in the words that folders of pictures may have. A test
    split without labels, which may be written as -1, is left out, and a line says so. Pictures are decoded, cropped and resized
    as those of folders are, in child processes.

    Args:
      path: the folder of the files, or the file, for messages.
      files: Parquet or Arrow files, in the order of their rows.
      image_size: pixels a side; 32 when None.
      origin: what the user named, for warnings: the zip file that the folder is unpacked from, or None for `path`.

    Returns:
      The splits "train", and "validation" and "test" where there are such files: images uint8 [N, image_size, image_size, 3].

    Raises:
      UserError: pyarrow is missing, a file is damaged, or there are no columns of pictures and labels; the message says which.
    """
    by_split: dict[str, list[Path]] = {}
    for file in files:
        of_split = by_split.setdefault(_split_of(path, file), [])
        if other := next((other for other in of_split if other.name == file.name), None):
            raise UserError(f"{path}: has two copies of the set, {other.parent} and {file.parent}; name one of them")
        of_split.append(file)
    if "train" not in by_split:
        raise UserError(f"{path}: there is no file of a train split, such as train-00000-of-00001.parquet")
    tables = {split: [_open(file) for file in by_split[split]] for split in SPLITS if split in by_split}
    columns = _columns(by_split["train"][0], tables["train"][0])
    if "test" in tables and all(_is_unlabelled(table, columns.labels) for table in tables["test"]):
        warn_of_unlabelled_test_split(origin or path)
        del tables["test"]
    for split, parts in tables.items():
        for file, table in zip(by_split[split], parts, strict=True):
            _check_columns(file, table, columns)
    names = [
        _names_or_numbers(path, tables, *of)
        for of in ((columns.labels, columns.class_names), (columns.coarse, columns.coarse_names))
    ]
    return as_test_split(
        origin or path,
        {split: _dataset(path, split, tables[split], columns, names, image_size or DEFAULT_SIZE) for split in tables},
    )


def _split_of(path: Path, file: Path) -> str:
    for part in (file.stem, *(parent.name for parent in file.relative_to(path.parent).parents)):
        for word in WORD.findall(part.lower()):
            if word in SPLIT_OF:
                return SPLIT_OF[word]
    raise UserError(f"{file}: neither its name nor that of its folder says which split it is: train, validation or test")


def _open(file: Path) -> Any:
    """The table in a file; an Arrow file is memory-mapped."""
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import ipc, parquet
    except ImportError:
        raise UserError(f"{file}: reading it takes pyarrow; type  {install_command('huggingface')}") from None
    try:
        if file.suffix.lower() == ".parquet":
            metadata = parquet.read_metadata(file)
            check_memory(str(file), sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)))
            return parquet.read_table(file)
        source = pyarrow.memory_map(str(file))
        try:
            return ipc.open_stream(source).read_all()
        except pyarrow.ArrowInvalid:
            return ipc.open_file(source).read_all()
    except (pyarrow.ArrowException, OSError, ValueError) as e:
        raise UserError(f"{file}: damaged, or no {file.suffix[1:].title()} file ({_line(e)})") from None


def _columns(file: Path, table: Any) -> _Columns:
    """Finds the columns by what the metadata of `datasets` say of them, else by their usual names."""
    features = _features(table)
    by_type = {
        kind: [name for name, feature in features.items() if feature.get("_type") == kind] for kind in ("Image", "ClassLabel")
    }
    there = list(table.column_names)

    def find(usual: Sequence[str], typed: Sequence[str]) -> str | None:
        return next((name for name in usual if name in there), next(iter(typed), None))

    coarse = next((name for name in COARSE if name in there), None)
    images = find(IMAGES, by_type["Image"])
    labels = find(LABELS, [name for name in by_type["ClassLabel"] if name != coarse])
    if images is None or labels is None:
        raise UserError(
            f"{file}: has the columns {', '.join(there[:8])}; expected pictures in one of {', '.join(IMAGES)}, "
            f"and labels in one of {', '.join(LABELS)}"
        )
    names = [tuple(features.get(name or "", {}).get("names", ())) for name in (labels, coarse)]
    return _Columns(images, labels, coarse, *names)


def _is_unlabelled(table: Any, column: str) -> bool:
    """Whether no picture of a table has a label."""
    if column not in table.column_names:
        return True
    labels = table.column(column).to_pylist()
    return bool(labels) and all(label in (-1, None) for label in labels)


def _check_columns(file: Path, table: Any, columns: _Columns) -> None:
    """Checks that a table has the columns, and one label for each picture."""
    for column in filter(None, (columns.images, columns.labels, columns.coarse)):
        if column not in table.column_names:
            raise UserError(f"{file}: has the columns {', '.join(table.column_names[:8])}; expected {column} among them")
        of = table.schema.field(column).type
        if column != columns.images and of.num_fields:  # lists and records
            raise UserError(f"{file}: {column} has values of the type {of}; expected a number or a text for each picture")


def _features(table: Any) -> dict[str, dict[str, Any]]:
    """What `datasets` has written about the columns; {} where it has not."""
    try:
        info = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        features = info.get("info", {}).get("features", {})
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, AttributeError):
        return {}


def _names_or_numbers(path: Path, tables: dict[str, list[Any]], column: str | None, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes; without any, the texts or numbers that occur in the column."""
    if column is None:
        return ()
    if names:
        return checked_names(f"{path}: {column}", names)
    values = {value for parts in tables.values() for table in parts for value in table.column(column).unique().to_pylist()}
    if not all(isinstance(value, int | str) for value in values):
        raise UserError(f"{path}: {column} has values that are neither text nor whole numbers")
    if negative := [value for value in values if isinstance(value, int) and value < 0]:
        raise UserError(
            f"{path}: {column} has the label {min(negative)}, expected none below 0; remove the rows without a label"
        )
    return checked_names(
        f"{path}: {column}", [str(value) for value in sorted(values, key=lambda value: (isinstance(value, str), value))]
    )


def _dataset(path: Path, split: str, tables: list[Any], columns: _Columns, names: list[tuple[str, ...]], size: int) -> Dataset:
    where, count = f"{path}: {split}", sum(len(table) for table in tables)
    if not count:
        raise UserError(f"{where}: has no rows")
    check_memory(where, count * size * size * 3)
    images = np.empty((count, size, size, 3), np.uint8)
    _decode(where, (data for table in tables for data in _pictures(where, table.column(columns.images))), images)

    def labels(column: str, of: tuple[str, ...], named: bool) -> np.ndarray:
        values = [value for table in tables for value in table.column(column).to_pylist()]
        if not named:
            place = {name: i for i, name in enumerate(of)}
            values = [place.get(str(value), -1) for value in values]
        return checked_labels(f"{where}: {column}", np.array(values), count, len(of))

    fine = labels(columns.labels, names[0], bool(columns.class_names))
    if columns.coarse is None:
        return Dataset(images, fine, names[0])
    return Dataset(images, fine, names[0], labels(columns.coarse, names[1], bool(columns.coarse_names)), names[1])


def _pictures(where: str, column: Any) -> Iterator[bytes]:
    """The files of a column, {"bytes": ...} or bytes themselves, one after another."""
    for chunk in column.chunks:
        for value in chunk:
            data = value.as_py()
            data = data.get("bytes") if isinstance(data, dict) else data
            if not isinstance(data, bytes):
                raise UserError(f"{where}: a picture is no file within the table; export the set with its pictures in it")
            yield data


def _decode(where: str, pictures: Iterator[bytes], images: np.ndarray) -> None:
    """Decodes pictures into `images`, uint8 [N, H, W, 3]."""
    for start in range(0, len(images), AT_ONCE):
        part = images[start : start + AT_ONCE]
        with tempfile.NamedTemporaryFile(prefix="cifar_flax-") as file:
            sizes = [file.write(data) for data in itertools.islice(pictures, len(part))]
            file.flush()
            refused = shared_decoder().fit_parts(Path(file.name), sizes, part)
        for i, error in refused.items():
            raise UserError(f"{where}: the picture in row {start + i} cannot be read: {error}")


def _line(e: Exception) -> str:
    return str(e).partition("\n")[0][:200]
