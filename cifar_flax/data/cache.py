"""The on-disk cache of data sets: memory-mapped .npy files under a manifest that holds their hashes.

An entry is a folder `KEY/` with one file per array, such as `train_images-58a81ae192c2.npy`, named after its SHA-256, and
`manifest.json`, which names them. Each file is written under a temporary name, flushed to disk and moved to its place, the
manifest last. So the manifest names complete files at any moment, while other processes read or write the entry too, and a
killed writer leaves only files that no manifest names. The next writer removes those.
"""

import errno
import hashlib
import io
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cifar_flax.data.dataset import Dataset, check_splits, superclass_map
from cifar_flax.errors import UserError
from cifar_flax.files.atomic import write_temporary, write_text
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed, sha256_of_file
from cifar_flax.files.installation import cache_folder
from cifar_flax.files.redact import visible

LOST = (errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)  # of a file that is to be written anew; others may pass
FORMAT = 1
MANIFEST = "manifest.json"
ORPHAN_AGE = 3600  # seconds after which no writer still works on a file that the manifest does not name


class CorruptCache(UserError):
    """A file of the cache is missing, damaged, or of another version; the message names the file and the reason."""


@dataclass(frozen=True)
class StoredArray:
    """One .npy file: its name in the entry, its SHA-256 and size in bytes, and the shape of its array."""

    file: Annotated[str, Field(pattern=r"^\w[\w.-]*\.npy$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """The content of an entry; `source` says where the data came from, `coarse_of_fine` is that of `Dataset`."""

    name: str
    source: str
    class_names: tuple[str, ...]
    coarse_names: tuple[str, ...]
    splits: dict[str, dict[str, StoredArray]]
    coarse_of_fine: tuple[int, ...] = ()
    format: int = FORMAT

    def hashes(self, split: str) -> dict[str, str]:
        """SHA-256 of each .npy file of a split, by array, for runs to record; empty where there is no such split.

        A data set has the same hashes whatever it was imported from, because rows are in canonical order.
        """
        return {name: stored.sha256 for name, stored in self.splits.get(split, {}).items()}


def key_of(name: str, image_size: int | None = None) -> str:
    """The folder name of a data set's entry: `cifar100`, `cifar100-64`; with a hash where `name` alone would not do.

    That is where it is no name of a file, or ends as a size does: `cifar100-64` is not `cifar100` at 64 pixels.
    """
    safe = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).lstrip("._-")[-60:]
    if safe != name or re.search(r"-\d+$", name):
        safe = f"{safe}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"
    return safe if image_size is None else f"{safe}-{image_size}"


def manifest(key: str) -> Manifest | None:
    """Reads the manifest of an entry; None where there is no such entry.

    Raises:
      CorruptCache: it is damaged, or another version of this program wrote it.
    """
    path = cache_folder() / key / MANIFEST
    try:
        entry = TypeAdapter(Manifest).validate_python(read_checksummed(path))
    except FileNotFoundError:
        return None
    except ValidationError as e:
        raise CorruptCache(f"{path}: damaged ({e.errors()[0]['msg']})") from None
    except ValueError as e:
        raise CorruptCache(f"{path}: damaged ({e})") from None
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror}); point CIFAR_FLAX_CACHE at another folder") from None
    if entry.format != FORMAT:
        raise CorruptCache(f"{path}: has format {entry.format}, this version of cifar_flax reads {FORMAT}")
    return entry


def manifests_by_size(name: str) -> dict[int | None, Manifest]:
    """The manifests of a data set's intact entries, by image size, that of its own size first."""
    key, entries = key_of(name), dict[int | None, Manifest]()
    suffixes = [path.name.removeprefix(f"{key}-") for path in cache_folder().glob(f"{key}-*")]
    for size in (None, *sorted(int(suffix) for suffix in suffixes if suffix.isdecimal())):
        with suppress(CorruptCache):
            if (entry := manifest(key_of(name, size))) and entry.name == name:
                entries[size] = entry
    return entries


def read(key: str, split: str, entry: Manifest | None = None) -> Dataset | None:
    """Opens one split, memory-mapped and verified; files of other splits stay closed. None where entry or split is missing.

    Args:
      key: the entry.
      split: its name.
      entry: the manifest by which to open it; by default the one that is there now.

    Raises:
      CorruptCache: a file is missing, truncated or altered; the message names it.
    """
    entry = entry or manifest(key)
    if entry is None or split not in entry.splits:
        return None
    arrays = {name: _open(cache_folder() / key / stored.file, stored) for name, stored in entry.splits[split].items()}
    if not {"images", "labels"} <= arrays.keys():
        raise CorruptCache(f"{cache_folder() / key / MANIFEST}: damaged (no images or no labels for {split})")
    return Dataset(
        **arrays, class_names=entry.class_names, coarse_names=entry.coarse_names, coarse_of_fine=entry.coarse_of_fine
    )


def hash_of(array: np.ndarray) -> str:
    """The SHA-256 that `Manifest.hashes` would give for an array."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return hashlib.sha256(file.getbuffer()).hexdigest()


def write(key: str, splits: Mapping[str, Dataset], source: str, name: str | None = None) -> Manifest:
    """Creates or replaces an entry, atomically; of several processes that do so at once, the last one wins.

    Args:
      key: the entry, from `key_of`.
      splits: by name; all with the same class and coarse names.
      source: where the data came from, in words; stored as `visible` shows it, since a path need not be UTF-8.
      name: of the data set, where it is not the key.

    Returns:
      The manifest.

    Raises:
      UserError: the cache cannot be written.
      ValueError: the splits disagree, or an array has the wrong dtype or shape.
    """
    check_splits(splits)
    with _writable_root() as root:
        folder_of_entry = root / key
        folder_of_entry.mkdir(parents=True, exist_ok=True)
        stored = {
            split: {array: _store(folder_of_entry, f"{split}_{array}", value) for array, value in dataset.arrays().items()}
            for split, dataset in splits.items()
        }
        first = next(iter(splits.values()))
        names, superclasses = (first.class_names, first.coarse_names), superclass_map(splits.values())
        entry = Manifest(visible(name or key), visible(source), *names, stored, superclasses)
        write_text(folder_of_entry / MANIFEST, dumps_checksummed(TypeAdapter(Manifest).dump_python(entry, mode="json")))
        _sync_folder(folder_of_entry)
        _remove_orphans(folder_of_entry, keep={file.file for arrays in stored.values() for file in arrays.values()})
        return entry


def quarantine(key: str) -> Path | None:
    """Renames a damaged entry to `KEY.damaged-TIME`, so that it can be rebuilt; None where another process was quicker.

    Raises:
      UserError: the cache cannot be written.
    """
    with _writable_root() as root:
        target = root / f"{key}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09}"
        try:
            os.replace(root / key, target)
        except FileNotFoundError:
            return None
        return target


def _open(path: Path, stored: StoredArray) -> np.ndarray:
    """Memory-maps an array, after comparing size and SHA-256 of its file with the manifest."""
    try:
        size = path.stat().st_size
        if size != stored.bytes:
            raise CorruptCache(f"{path}: damaged ({size} bytes, expected {stored.bytes})")
        digest = sha256_of_file(path)
        if digest != stored.sha256:
            raise CorruptCache(f"{path}: damaged (SHA-256 is {digest[:12]}..., expected {stored.sha256[:12]}...)")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise CorruptCache(f"{path}: missing") from None
    except OSError as e:
        if e.errno in LOST:
            raise CorruptCache(f"{path}: cannot be read ({e.strerror or e})") from None
        raise UserError(f"{path}: cannot be read now ({e.strerror or e}); it is left as it is") from None
    if array.shape != stored.shape:
        raise CorruptCache(f"{path}: damaged (shape {array.shape}, the manifest says {stored.shape})")
    return array


def _store(entry: Path, name: str, array: np.ndarray) -> StoredArray:
    array = np.ascontiguousarray(array)
    temporary = write_temporary(entry, lambda file: np.save(file, array, allow_pickle=False))
    digest = sha256_of_file(temporary)
    stored = StoredArray(f"{name}-{digest[:12]}.npy", digest, temporary.stat().st_size, array.shape)
    target = entry / stored.file
    if _is_there(target, stored):
        temporary.unlink()  # another host may have mapped the file that is there: of NFS, it would lose its pages
        with suppress(OSError):  # it may be somebody else's
            os.utime(target)
    else:
        os.replace(temporary, target)
    return stored


def _is_there(path: Path, stored: StoredArray) -> bool:
    """Whether the file exists with this content."""
    try:
        return path.stat().st_size == stored.bytes and sha256_of_file(path) == stored.sha256
    except OSError:
        return False


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_orphans(entry: Path, keep: set[str]) -> None:
    """Removes files of an earlier version of the entry or of a killed writer, unless they are as new as another writer's."""
    for path in entry.iterdir():
        with suppress(FileNotFoundError):  # another writer has moved or removed it
            is_unnamed = path.name not in keep | {MANIFEST} and not path.is_dir()
            if is_unnamed and path.stat().st_mtime < time.time() - ORPHAN_AGE:
                path.unlink()


@contextmanager
def _writable_root() -> Iterator[Path]:
    """The folder of the cache, created; turns an OSError of the block into a UserError."""
    root = cache_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield root
    except OSError as e:
        raise UserError(
            f"the data cache {root} cannot be written ({e.strerror or e}): "
            "free some space there, or point CIFAR_FLAX_CACHE at another folder"
        ) from None
