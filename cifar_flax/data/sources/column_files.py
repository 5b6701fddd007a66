"""Parquet and Arrow files: what their columns are called, and their values, of which only those asked for are read."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar_flax.errors import UserError
from cifar_flax.files.installation import install_command
from cifar_flax.files.redact import reason
from cifar_flax.files.walk import files_below

SUFFIXES = (".parquet", ".arrow")
BATCH = 256  # rows that are in memory at a time, where they are pictures


def column_files_in(path: Path) -> list[Path]:
    """The Parquet and Arrow files in a folder and below, sorted, without what `datasets` keeps of computed columns.

    Raises:
      UserError: a folder cannot be listed.
    """
    return [file for file in files_below(path) if file.suffix.lower() in SUFFIXES and not file.name.startswith("cache-")]


class ColumnFile:
    """A Parquet or Arrow file, which is open only while something is read from it: a set may have thousands."""

    def __init__(self, path: Path) -> None:
        """Reads the names of the columns.

        Raises:
          UserError: pyarrow is missing, or the file is damaged.
        """
        self.path = path
        self._parquet = path.suffix.lower() == ".parquet"
        with self._readable():
            from pyarrow import parquet  # type: ignore[import-untyped]

            self._schema = parquet.read_schema(path) if self._parquet else self._arrow_batches()[0]

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._schema.names)

    def type_of(self, column: str) -> Any:
        """The type of a column, of pyarrow."""
        return self._schema.field(column).type

    def features(self) -> dict[str, dict[str, Any]]:
        """The description of the columns by `datasets`; {} where there is none."""
        try:
            info = json.loads((self._schema.metadata or {}).get(b"huggingface", b"{}"))
            features = info.get("info", {}).get("features", {})
            return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
        except (ValueError, AttributeError, RecursionError):
            return {}

    def class_names(self, column: str) -> tuple[str, ...]:
        """The names of the classes that a column numbers, as `datasets` has written them; empty where it has not."""
        names = self.features().get(column, {}).get("names")
        return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()

    def size_of_part(self, columns: Sequence[str]) -> int:
        """The bytes that columns unpack to while they are read, by what the file says of itself: a group of rows of Parquet."""
        if not self._parquet:
            return 0  # it is mapped into memory
        with self._readable():
            from pyarrow import parquet

            metadata = parquet.read_metadata(self.path)
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            chunks = [[group.column(i) for i in range(group.num_columns)] for group in groups]
            return max(
                (sum(chunk.total_uncompressed_size for chunk in group if _is_of(chunk, columns)) for group in chunks), default=0
            )

    def values(self, column: str) -> Iterator[Any]:
        """The values of a column, one after another.

        Raises:
          UserError: the file is damaged.
        """
        with self._readable():
            for batch in self._parquet_batches(column) if self._parquet else self._arrow_batches()[1]:
                yield from (value.as_py() for value in batch.column(column))

    def _parquet_batches(self, column: str) -> Iterator[Any]:
        from pyarrow import parquet

        with parquet.ParquetFile(self.path) as file:
            yield from file.iter_batches(BATCH, columns=[column])

    def _arrow_batches(self) -> tuple[Any, Iterable[Any]]:
        """The schema of an Arrow file, and its batches."""
        import pyarrow
        from pyarrow import ipc

        source = pyarrow.memory_map(str(self.path))
        try:
            stream = ipc.open_stream(source)
            return stream.schema, stream
        except pyarrow.ArrowInvalid:
            file = ipc.open_file(source)
            return file.schema, (file.get_batch(i) for i in range(file.num_record_batches))

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turns what pyarrow raises into a line."""
        try:
            import pyarrow
        except ImportError:
            raise UserError(f"{self.path}: reading it takes pyarrow; type  {install_command('huggingface')}") from None
        try:
            yield
        except (pyarrow.ArrowException, OSError, ValueError, KeyError) as e:
            kind = self.path.suffix[1:].title()
            raise UserError(f"{self.path}: damaged, or no {kind} file ({reason(e)})") from None


def _is_of(chunk: Any, columns: Sequence[str]) -> bool:
    """Whether a chunk of Parquet is of one of the columns, such as img.bytes of img."""
    return any(chunk.path_in_schema == column or chunk.path_in_schema.startswith(f"{column}.") for column in columns)
