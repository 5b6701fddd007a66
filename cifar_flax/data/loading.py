"""Data sets by name: read from the cache, into which their source writes them first."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from absl import logging

from cifar_flax.config import DataConfig
from cifar_flax.config.imports import is_import_path
from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.shapes100.source import NAME as SHAPES100
from cifar_flax.data.shapes100.source import Shapes100
from cifar_flax.data.sources.folders import PREFIX, FolderSource
from cifar_flax.data.sources.functions import FunctionSource
from cifar_flax.data.sources.huggingface import PREFIX as HUB
from cifar_flax.data.sources.huggingface import HubSource
from cifar_flax.data.sources.source import Source
from cifar_flax.data.sources.tfds import TfdsSource
from cifar_flax.errors import UserError
from cifar_flax.files.redact import visible


class Loaded(NamedTuple):
    """Splits of a data set, and by split the hashes of all that it has, of one moment: a folder may change before the next."""

    datasets: dict[str, Dataset]
    hashes: dict[str, dict[str, str]]

    def recorded(self, split: str) -> dict[str, str]:
        """SHA-256 of each array of a split, for a run to record: {"images": ..., "labels": ...}; empty without such a split.

        Those of "train" include those of a validation split that the set has of its own: {"validation_images": ..., ...}.
        """
        own = self.hashes.get("validation", {}) if split == "train" else {}
        return self.hashes.get(split, {}) | {f"validation_{name}": digest for name, digest in own.items()}


def load_dataset(config: DataConfig, split: str) -> Dataset:
    """Loads one split of the data set that `config` names; as `load_splits`."""
    return load_splits(config, lambda there: [split]).datasets[split]


def load_splits(config: DataConfig, wanted: Callable[[Collection[str]], Sequence[str]]) -> Loaded:
    """Loads splits of the data set that `config` names.

    An up-to-date entry of the cache is read; otherwise the source writes it first. A damaged entry is moved aside and rebuilt.
    Files of other splits are not opened.

    Args:
      config: `name` and `image_size` choose the data set. `shapes100` is drawn, `folder:PATH` is read from pictures,
        `hf:USER/NAME` comes from the Hugging Face Hub, `module:function` calls a user's function, and any other name is an
        imported data set or one of TFDS.
      wanted: given the names of the splits that there are, returns those to load: "train" or "test", or "validation" where the
        set has one of its own.

    Returns:
      Datasets with images uint8 [N, H, W, C], memory-mapped, and the hashes of all splits, those not loaded too.

    Raises:
      UserError: there is no such data set or split, or it cannot be fetched; the message says what helps.
    """
    source = _source(config)

    def read() -> Loaded:
        entry = cache.manifest(source.key())
        if entry is None:  # another process has moved it aside
            raise cache.CorruptCache(f"{source.key()}: missing from the cache")
        return _opened(config, source.key(), entry, wanted(entry.splits))

    try:
        _refresh(source)
        return read()
    except cache.CorruptCache as damage:
        return _recover(source, read, damage)


def read_cached(config: DataConfig, split: str, most_bytes: int) -> Loaded | None:
    """Opens one split as the cache has it; its source is not asked, so that nothing is fetched, drawn or computed.

    Args:
      config: as in `load_dataset`.
      split: as in `load_dataset`.
      most_bytes: of its images; a larger split is not opened, because that reads and hashes all of it.

    Returns:
      As `load_splits`; None where the cache does not have the split, or it is larger.

    Raises:
      UserError: there is no such data set, or its files are damaged.
    """
    key = _source(config).key()
    entry = cache.manifest(key)
    stored = entry.splits.get(split, {}).get("images") if entry else None
    return _opened(config, key, entry, [split]) if entry and stored and stored.bytes <= most_bytes else None


def data_identity(config: DataConfig) -> str:
    """The name of a data set with absolute paths, for a run to record: "folder:/data/pets", "/home/me/my_mixer.py:digits"."""
    return _source(config).identity


def with_absolute_path(config: DataConfig) -> DataConfig:
    """The same config with an absolute path in `name`, where that is a folder: a run is opened from other folders too."""
    return replace(config, name=data_identity(config)) if config.name.startswith(PREFIX) else config


def _source(config: DataConfig) -> Source:
    name, size = config.name, config.image_size
    if name == SHAPES100:
        return Shapes100(size)
    if name.startswith(PREFIX):
        return FolderSource(name, size, config.test_fraction)
    if name.startswith(HUB):
        return HubSource(name, size)
    if is_import_path(name):  # which cifar10:3.0.2, a version of TFDS, is not
        return FunctionSource(name, size)
    return TfdsSource(name, size)


def _refresh(source: Source) -> None:
    """Writes the entry unless it is there and up to date."""
    entry, version = cache.manifest(source.key()), source.version()
    if entry is None or (version is not None and entry.source != visible(version)):
        source.build()


def _opened(config: DataConfig, key: str, entry: cache.Manifest, splits: Sequence[str]) -> Loaded:
    """The splits of an entry, by one reading of its manifest."""
    datasets = {}
    for split in splits:
        dataset = cache.read(key, split, entry)
        if dataset is None:
            raise UserError(f"{config.name} has no {split} split, only {' and '.join(entry.splits)}")
        datasets[split] = dataset
    return Loaded(datasets, {split: entry.hashes(split) for split in entry.splits})


def _recover(source: Source, read: Callable[[], Loaded], damage: cache.CorruptCache) -> Loaded:
    """Moves a damaged entry aside and has it written again."""
    with suppress(cache.CorruptCache):
        return read()  # another process may have replaced it in the meantime
    moved = cache.quarantine(source.key())
    aside = "another process has moved it aside" if moved is None else f"moved to {moved}"
    logging.warning("%s; %s, rebuilding it", damage, aside)
    try:
        _refresh(source)
    except UserError as e:
        raise UserError(f"{damage}; {aside}, and it cannot be rebuilt: {e}") from None
    return read()
