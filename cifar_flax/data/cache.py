"""The on-disk cache of data sets: memory-mapped .npy files under a manifest that holds their hashes.

An entry is a folder `KEY/` with one file an array, such as `train_images-58a81ae192c2.npy`, named after its own SHA-256, and
`manifest.json`, which names them. Every file is written beside its place, flushed to disk and moved there, the manifest last.
So the manifest names complete files at any moment, whoever else reads or writes the entry, and a killed writer leaves nothing
but files that no manifest names. The next writer removes those.
"""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed

FORMAT = 1
MANIFEST = "manifest.json"
DEAD_AFTER = 3600  # seconds after which an unnamed file belongs to no writer that is still at work


class CorruptCache(UserError):
    """A file of the cache is missing, damaged, or not ours; the message names it and says why."""


@dataclass(frozen=True)
class StoredArray:
    """One .npy file: its name inside the entry, its SHA-256 and size in bytes, and the shape of its array."""

    file: Annotated[str, Field(pattern=r"^\w[\w.-]*\.npy$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """What an entry holds; `source` says where it came from."""

    name: str
    source: str
    class_names: tuple[str, ...]
    coarse_names: tuple[str, ...]
    splits: dict[str, dict[str, StoredArray]]
    format: int = FORMAT


def folder() -> Path:
    """Where the cache is: $CIFAR_FLAX_CACHE, or else cifar_flax in $XDG_CACHE_HOME, or else ~/.cache/cifar_flax."""
    chosen = os.environ.get("CIFAR_FLAX_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "cifar_flax"


def key_of(name: str, image_size: int | None = None) -> str:
    """The entry's folder name for a data set: `cifar100`, `cifar100-64`; hashed where `name` is not fit for file systems."""
    safe = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).lstrip("._-")[-60:]
    if safe != name:
        safe = f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return safe if image_size is None else f"{safe}-{image_size}"


def manifest(key: str) -> Manifest | None:
    """What the entry holds, or None where there is no such entry.

    Raises:
      CorruptCache: the manifest is not one, or another version of this program wrote it.
    """
    path = folder() / key / MANIFEST
    try:
        found = TypeAdapter(Manifest).validate_python(read_checksummed(path))
    except FileNotFoundError:
        return None
    except ValidationError as e:
        raise CorruptCache(f"{path}: damaged ({e.errors()[0]['msg']})") from None
    except ValueError as e:
        raise CorruptCache(f"{path}: damaged ({e})") from None
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror}); point CIFAR_FLAX_CACHE at another folder") from None
    if found.format != FORMAT:
        raise CorruptCache(f"{path}: has format {found.format}, this version of cifar_flax reads {FORMAT}")
    return found


def read(key: str, split: str) -> Dataset | None:
    """One split, memory-mapped and verified; files of other splits are not opened. None where the entry or split is missing.

    Raises:
      CorruptCache: a file is missing, truncated or altered; the message names it.
    """
    found = manifest(key)
    if found is None or split not in found.splits:
        return None
    arrays = {name: _open(folder() / key / stored.file, stored) for name, stored in found.splits[split].items()}
    if not {"images", "labels"} <= arrays.keys():
        raise CorruptCache(f"{folder() / key / MANIFEST}: damaged (no images or no labels for {split})")
    return Dataset(**arrays, class_names=found.class_names, coarse_names=found.coarse_names)


def hashes(key: str, split: str) -> dict[str, str]:
    """SHA-256 of each .npy file of a split, by array: what a run records to say which data it saw. Empty where there is none.

    The same set gives the same hashes whatever it was imported from, because rows are in canonical order.
    """
    found = manifest(key)
    return {name: stored.sha256 for name, stored in found.splits.get(split, {}).items()} if found else {}


def write(key: str, splits: Mapping[str, Dataset], source: str, name: str | None = None) -> None:
    """Makes or replaces an entry, atomically; when several processes do so at once, the last one wins.

    Args:
      key: the entry, from `key_of`.
      splits: by name; all with the same class and coarse names.
      source: where the data came from, in words.
      name: the data set's name where it is not the key.

    Raises:
      UserError: the cache cannot be written.
      ValueError: the splits disagree, or an array has the wrong dtype or shape.
    """
    first = next(iter(splits.values()))
    for dataset in splits.values():
        _check(dataset, first)
    with _writing() as root:
        entry = root / key
        entry.mkdir(parents=True, exist_ok=True)
        stored = {
            split: {name: _store(entry, f"{split}_{name}", array) for name, array in _arrays(dataset).items()}
            for split, dataset in splits.items()
        }
        new = Manifest(name or key, source, first.class_names, first.coarse_names, stored)
        text = dumps_checksummed(TypeAdapter(Manifest).dump_python(new, mode="json"))
        temporary, _ = _write_beside(entry, lambda file: file.write(text.encode()))
        os.replace(temporary, entry / MANIFEST)
        _sync_folder(entry)
        _remove_leftovers(entry, keep={file.file for arrays in stored.values() for file in arrays.values()})


def quarantine(key: str) -> Path | None:
    """Renames a damaged entry to `KEY.damaged-TIME`, so that it can be rebuilt; None where another process was quicker.

    Raises:
      UserError: the cache cannot be written.
    """
    with _writing() as root:
        target = root / f"{key}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            os.replace(root / key, target)
        except FileNotFoundError:
            return None
        return target


def _arrays(dataset: Dataset) -> dict[str, np.ndarray]:
    arrays = {"images": dataset.images, "labels": dataset.labels}
    return arrays if dataset.coarse_labels is None else {**arrays, "coarse_labels": dataset.coarse_labels}


def _check(dataset: Dataset, first: Dataset) -> None:
    if (dataset.class_names, dataset.coarse_names) != (first.class_names, first.coarse_names):
        raise ValueError("splits with different class names")
    if dataset.images.dtype != np.uint8 or dataset.images.ndim != 4 or dataset.images.shape[-1] not in (1, 3):
        raise ValueError(f"images must be uint8 [N, H, W, 1 or 3], not {dataset.images.dtype} {dataset.images.shape}")
    labels = [(dataset.labels, dataset.class_names)]
    if dataset.coarse_labels is not None:
        labels.append((dataset.coarse_labels, dataset.coarse_names))
    for array, names in labels:
        if array.dtype != np.int32 or array.shape != dataset.images.shape[:1]:
            raise ValueError(f"labels must be int32 {dataset.images.shape[:1]}, not {array.dtype} {array.shape}")
        if len(array) and not 0 <= array.min() <= array.max() < len(names):
            raise ValueError(f"labels from {array.min()} to {array.max()} for {len(names)} names")


def _open(path: Path, stored: StoredArray) -> np.ndarray:
    """The array in `path`, memory-mapped, once its bytes are found to be those that were stored."""
    try:
        size = path.stat().st_size
        if size != stored.bytes:
            raise CorruptCache(f"{path}: damaged ({size} bytes, expected {stored.bytes})")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != stored.sha256:
            raise CorruptCache(f"{path}: damaged (SHA-256 is {digest[:12]}..., expected {stored.sha256[:12]}...)")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise CorruptCache(f"{path}: missing") from None
    except OSError as e:
        raise CorruptCache(f"{path}: cannot be read ({e.strerror or e})") from None
    if array.shape != stored.shape:
        raise CorruptCache(f"{path}: damaged (shape {array.shape}, the manifest says {stored.shape})")
    return array


def _store(entry: Path, name: str, array: np.ndarray) -> StoredArray:
    array = np.ascontiguousarray(array)
    temporary, digest = _write_beside(entry, lambda file: np.save(file, array, allow_pickle=False))
    stored = StoredArray(f"{name}-{digest[:12]}.npy", digest, temporary.stat().st_size, array.shape)
    os.replace(temporary, entry / stored.file)
    return stored


def _write_beside(entry: Path, fill: Any) -> tuple[Path, str]:
    """Has `fill(file)` write a new file in `entry`, flushed to disk; returns its path and the SHA-256 of its bytes."""
    descriptor, name = tempfile.mkstemp(dir=entry, prefix=".new-")
    try:
        with os.fdopen(descriptor, "w+b") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.chmod(name, 0o644)  # mkstemp's 0600 would keep colleagues out of a shared cache
    except BaseException:
        os.unlink(name)
        raise
    return Path(name), digest


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(entry: Path, keep: set[str]) -> None:
    """Removes what an earlier version of the entry or a killed writer has left, unless it may still be another writer's."""
    for path in entry.iterdir():
        with suppress(FileNotFoundError):  # the other writer has moved or removed it
            if path.name not in keep | {MANIFEST} and path.stat().st_mtime < time.time() - DEAD_AFTER:
                path.unlink()


@contextmanager
def _writing() -> Iterator[Path]:
    root = folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield root
    except OSError as e:
        raise UserError(
            f"the data cache {root} cannot be written ({e.strerror or e}): "
            "free some space there, or point CIFAR_FLAX_CACHE at another folder"
        ) from None
