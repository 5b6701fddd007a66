"""From a name to a data set: out of the cache, or from wherever it can be had into the cache first."""

import hashlib
from pathlib import Path

from absl import logging

from cifar_flax.config import DataConfig
from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.sources import folders, tfds
from cifar_flax.errors import ConfigError, UserError

SPLITS = ("train", "test")
EMBEDDED = "shapes100"
DRAWING_CODE = ("render.py", "classes.py", "distance_fields.py")  # a change in one of these draws it anew
FOLDER = "folder:"
INSTALL = "pip install -e '.[tfds]'  and run the same command"
POINT = "point TFDS_DATA_DIR at a directory where TFDS has prepared it"


def load_dataset(config: DataConfig, split: str) -> Dataset:
    """One split of the data set that `config` names.

    Looked for in this order: the cache, the user's TFDS directory, TFDS download. `shapes100` is drawn and `folder:PATH` is
    read, both again when the cached copy is no longer what they would give. A damaged cache entry is moved aside and made anew.
    Only the files of `split` are opened.

    Args:
      config: `name` and `image_size` choose the set.
      split: "train" or "test".

    Returns:
      Dataset with images uint8 [N, H, W, C], memory-mapped.

    Raises:
      UserError: no such set or split, or it is not here and cannot be had; the message says what helps.
    """
    key = _key(config)
    source = _source(config.name)
    try:
        _refresh(config, key, source)
        dataset = cache.read(key, split)
    except cache.CorruptCache as damage:
        dataset = _recover(config, key, split, source, damage)
    if dataset is None:
        found = cache.manifest(key)
        raise UserError(f"{config.name} has no {split} split, only {' and '.join(found.splits) if found else 'none'}")
    return dataset


def data_hashes(config: DataConfig, split: str) -> dict[str, str]:
    """SHA-256 of each array of a split that `load_dataset` has loaded, for a run to record: {"images": ..., "labels": ...}."""
    return cache.hashes(_key(config), split)


def _key(config: DataConfig) -> str:
    if config.name.startswith(FOLDER):
        path = _folder_path(config.name)
        return cache.key_of(f"{FOLDER}{path}", config.image_size or folders.DEFAULT_SIZE)
    return cache.key_of(config.name, config.image_size)


def _folder_path(name: str) -> Path:
    return Path(name.removeprefix(FOLDER)).expanduser().absolute()


def _source(name: str) -> str | None:
    """What the cached copy must have been made from to be good still; None where any copy is."""
    if name.startswith(FOLDER):
        path = _folder_path(name)
        return f"folder {path}, fingerprint {folders.fingerprint(path)}"
    if name == EMBEDDED:
        code = b"".join((Path(__file__).parent / "shapes100" / file).read_bytes() for file in DRAWING_CODE)
        return f"drawn by cifar_flax.data.shapes100.render {hashlib.sha256(code).hexdigest()[:16]}, seed 0"
    return None


def _refresh(config: DataConfig, key: str, source: str | None) -> None:
    """Writes the entry unless it is there and up to date."""
    found = cache.manifest(key)
    if found is None or (source is not None and found.source != source):
        _build(config, key, source)


def _recover(config: DataConfig, key: str, split: str, source: str | None, damage: cache.CorruptCache) -> Dataset | None:
    """Moves a damaged entry aside and makes it anew."""
    try:
        dataset = cache.read(key, split)  # another process may have replaced it while we were reading
        if dataset is not None:
            return dataset
    except cache.CorruptCache:
        pass
    moved = cache.quarantine(key)
    logging.warning("%s; moved to %s, making it anew", damage, moved)
    try:
        _refresh(config, key, source)
    except UserError as e:
        raise UserError(f"{damage}; moved to {moved}, and it cannot be made anew: {e}") from None
    return cache.read(key, split)


def _build(config: DataConfig, key: str, source: str | None) -> None:
    name, size = config.name, config.image_size
    if name.startswith(FOLDER):
        cache.write(key, folders.read(_folder_path(name), size), source or "", name)
    elif name == EMBEDDED:
        from cifar_flax.data.shapes100 import render

        if size not in (None, render.SIZE):
            raise ConfigError(f"config.data.image_size: {EMBEDDED} is drawn with {render.SIZE} pixels a side; leave it at None")
        cache.write(key, {split: render.generate(split, seed=0) for split in SPLITS}, source or "", name)
    else:
        try:
            tfds.prepare(name, size)
        except tfds.NotInstalled as e:
            raise UserError(f"{e} {_ways(name, size, INSTALL)}") from None
        except tfds.Unreachable as e:
            raise UserError(f"{e} {_ways(name, size, POINT)}") from None


def _ways(name: str, size: int | None, first: str) -> str:
    """How to come by a data set: `first`, or one of the ways that always work."""
    resize = "" if size is None else f" --image_size={size}"
    official = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}.get(name)
    archive = official or "FILE.npz"
    what = f"copy {archive} here and run" if official else "with the data as an .npz file or an image folder, run"
    return "\n".join(
        (
            "Any one of these helps:",
            f"  - {first}",
            f"  - {what}  python launch/import_data.py --name={name} --archive={archive}{resize}",
            "  - try the embedded data set:  --config=configs/quickstart.py",
        )
    )
