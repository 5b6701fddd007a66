"""Data sets as Hugging Face has them: Parquet files of its Hub, and Arrow files that its library `datasets` writes."""

import itertools
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset, check_splits, warn_once
from cifar_flax.data.pictures.isolated import shared_decoder
from cifar_flax.data.sources.class_columns import as_int, read_classes
from cifar_flax.data.sources.column_files import ColumnFile, column_files_in
from cifar_flax.data.sources.folders import DEFAULT_SIZE
from cifar_flax.data.sources.held_out import as_test_split, warn_of_unlabelled_test_split
from cifar_flax.data.sources.source import Source
from cifar_flax.data.sources.split_names import SPLIT_OF, SPLITS, WORD, split_in_name
from cifar_flax.errors import UserError
from cifar_flax.files.installation import install_command
from cifar_flax.files.redact import named_reason
from cifar_flax.runtime.memory import check_allocation

PREFIX = "hf:"  # of config.data.name
IMAGES = ("img", "image", "images", "picture", "photo")  # names of columns, the first that is there
LABELS = ("fine_label", "label", "labels", "class", "target", "category")
COARSE = ("coarse_label", "superclass")
PART = re.compile(r"-(\d+)-of-(\d+)(?:-[0-9a-f]{16})?")  # of a split, at the end of a file's name; older ones have a hash
AT_ONCE = 4096  # pictures that are written to a temporary file, from which child processes read them


class HubSource(Source):
    """`hf:USER/NAME` or `hf:USER/NAME:CONFIG` as a source: what the library `datasets` downloads, once."""

    def __init__(self, name: str, image_size: int | None = None) -> None:
        super().__init__(name, image_size)
        repository, _, config = name.removeprefix(PREFIX).partition(":")
        self._repository, self._config = repository, config or None

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
            raise UserError(f"{self.identity}: cannot be fetched from the Hugging Face Hub ({named_reason(e)})") from None
        folder = Path(builder.cache_dir)
        splits = read(folder, self._files(folder, builder.info.splits or ()), self.image_size)
        try:
            check_splits(splits)
        except ValueError as e:
            raise UserError(f"{self.identity}: {e}") from None
        cache.write(self.key(), splits, f"Hugging Face Hub, {self.identity}", self.identity)

    def _files(self, folder: Path, names: Iterable[str]) -> list[Path]:
        """Its files, SET-SPLIT.arrow or SET-SPLIT-00000-of-00002.arrow, but for those of splits called as none of ours."""
        others, files = [name for name in names if name.lower() not in SPLIT_OF], list(column_files_in(folder))
        if not others:
            return files
        warn_once("%s: left out: what is called %s", self.identity, ", ".join(others))
        of_others = re.compile(rf".*-({'|'.join(map(re.escape, others))})({PART.pattern})?")
        return [file for file in files if not of_others.fullmatch(file.stem)]


class _Columns(NamedTuple):
    """Names of the columns that are read."""

    images: str
    labels: str
    coarse: str | None


def read(path: Path, files: Sequence[Path], image_size: int | None = None, origin: Path | None = None) -> dict[str, Dataset]:
    """Reads the splits of a data set.

    A file belongs to the split that its name or, else, its folder names, in the words that folders of pictures may have; of
    several the last counts. A test split without labels, which may be written as -1, is left out, and a line says so. Pictures
    are decoded, cropped and resized as those of folders are, in child processes, file after file, by groups of rows.

    Args:
      path: the folder of the files, or the file, for messages.
      files: Parquet or Arrow files, in the order of their rows.
      image_size: pixels a side; 32 when None.
      origin: what the user named, for warnings: the zip file that the folder is unpacked from, or None for `path`.

    Returns:
      The splits "train", and "validation" and "test" where there are such files: images uint8 [N, image_size, image_size, 3].

    Raises:
      UserError: pyarrow is missing, a file is damaged, there are no columns of pictures and labels, or the files name other
        classes; the message says which.
    """
    by_split = {split: list(map(ColumnFile, paths)) for split, paths in _by_split(path, files).items()}
    _warn_of_merged(origin or path, by_split)
    columns = _columns(by_split["train"][0])
    if "test" in by_split and all(_is_unlabelled(file, columns.labels) for file in by_split["test"]):
        warn_of_unlabelled_test_split(origin or path)
        del by_split["test"]
    for file in itertools.chain.from_iterable(by_split.values()):
        _check_columns(file, columns)
    names, labels = read_classes(str(path), by_split, columns.labels)
    coarse_names, coarse = read_classes(str(path), by_split, columns.coarse) if columns.coarse else ((), {})
    size = image_size or DEFAULT_SIZE
    check_allocation(str(path), sum(map(len, labels.values())) * size * size * 3)
    splits = {}
    for split, of_split in by_split.items():
        images = _images(f"{path}: {split}", of_split, columns.images, (len(labels[split]), size, size, 3))
        splits[split] = Dataset(images, labels[split], names, coarse.get(split), coarse_names)
    return as_test_split(origin or path, splits)


def _by_split(path: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each split, splits in the order of `SPLITS`."""
    by_split: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for file in files:
        by_split[_split_of(path, file)].append(file)
    for of_split in by_split.values():
        _check_whole(path, of_split)
    if not by_split["train"]:
        raise UserError(f"{path}: there is no file of a train split, such as train-00000-of-00001.parquet")
    return {split: of_split for split, of_split in by_split.items() if of_split}


def _check_whole(path: Path, files: Sequence[Path]) -> None:
    """Refuses files of one name, their parts aside, that lie in several folders, or of which some are missing."""
    by_name: dict[str, list[Path]] = {}
    for file in files:
        by_name.setdefault(PART.sub("", file.name), []).append(file)
    for name, of_name in by_name.items():
        if other := next((file for file in of_name if file.parent != of_name[0].parent), None):
            raise UserError(f"{path}: has two copies of the set, {of_name[0].parent} and {other.parent}; name one of them")
        matches = [match for file in of_name if (match := PART.search(file.stem))]
        parts, counts = {match[1] for match in matches}, {match[2] for match in matches}
        if len(counts) > 1 or any(len(parts) != int(count) for count in counts):
            raise UserError(
                f"{of_name[0].parent}: has {len(of_name)} of the {' or '.join(sorted(counts))} parts of {name}; download the "
                "others, or name a folder of one set"
            )


def _warn_of_merged(origin: Path, by_split: Mapping[str, Sequence[ColumnFile]]) -> None:
    """Says which names, numbers aside, are read as one split: of train and train_extra one may not be meant."""
    for split, files in by_split.items():
        named = [file.path for file in files if split_in_name(file.path.stem)]
        one_of_each = {tuple(WORD.findall(PART.sub("", path.stem))): path.name for path in reversed(named)}
        if len(one_of_each) > 1:
            names = ", ".join(sorted(one_of_each.values()))
            warn_once(
                "%s: the %s split is made of files of several names, such as %s; is each of them meant?", origin, split, names
            )


def _split_of(path: Path, file: Path) -> str:
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    for name in (file.stem, *(parent.name for parent in file.absolute().relative_to(folder.parent).parents)):
        if split := split_in_name(name):
            return split
    raise UserError(
        f"{file}: neither its name nor that of its folder says which split it is, train, validation or test; rename it, "
        "say to train.parquet"
    )


def _columns(file: ColumnFile) -> _Columns:
    """Finds the columns by what the metadata of `datasets` say of them, else by their usual names."""
    features = file.features()
    by_type = {
        kind: [name for name, feature in features.items() if feature.get("_type") == kind] for kind in ("Image", "ClassLabel")
    }

    def find(usual: Sequence[str], typed: Sequence[str]) -> str | None:
        return next((name for name in usual if name in file.columns), next(iter(typed), None))

    coarse = next((name for name in COARSE if name in file.columns), None)
    images = find(IMAGES, by_type["Image"])
    labels = find(LABELS, [name for name in by_type["ClassLabel"] if name != coarse])
    if images is None or labels is None:
        raise UserError(
            f"{file.path}: has the columns {', '.join(file.columns[:8])}; expected pictures in one of {', '.join(IMAGES)}, "
            f"and labels in one of {', '.join(LABELS)}"
        )
    return _Columns(images, labels, coarse)


def _is_unlabelled(file: ColumnFile, column: str) -> bool:
    """Whether no picture of a file has a label."""
    if column not in file.columns:
        return True
    labels = list(map(as_int, file.values(column)))
    return bool(labels) and all(label in (-1, None) for label in labels)


def _check_columns(file: ColumnFile, columns: _Columns) -> None:
    """Checks that a file has the columns, one label for each picture, and parts that the memory holds."""
    needed = [column for column in columns if column]
    for column in needed:
        if file.columns.count(column) != 1:
            raise UserError(f"{file.path}: has the columns {', '.join(file.columns[:8])}; expected {column} among them")
        kind = file.type_of(column)
        if column != columns.images and kind.num_fields:  # lists and records
            raise UserError(
                f"{file.path}: {column} has values of the type {kind}; expected a number or a text for each picture"
            )
    check_allocation(str(file.path), file.size_of_part(needed))


def _images(where: str, files: Sequence[ColumnFile], column: str, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Decodes the pictures of a split, uint8 [N, H, W, 3]."""
    if not shape[0]:
        raise UserError(f"{where}: has no rows")
    images = np.empty(shape, np.uint8)
    pictures = (_file_of(where, value) for file in files for value in file.values(column))
    for start in range(0, len(images), AT_ONCE):
        part = images[start : start + AT_ONCE]
        with tempfile.NamedTemporaryFile(prefix="cifar_flax-") as temporary:
            sizes = [temporary.write(data) for data in itertools.islice(pictures, len(part))]
            temporary.flush()
            refused = shared_decoder().fit_parts(Path(temporary.name), sizes, part)
        for i, error in refused.items():
            raise UserError(f"{where}: the picture in row {start + i} cannot be read: {error}")
    return images


def _file_of(where: str, value: Any) -> bytes:
    """The file of a picture, {"bytes": ...} or bytes themselves."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise UserError(f"{where}: a picture is no file within the table; export the set with its pictures in it")
    return data
