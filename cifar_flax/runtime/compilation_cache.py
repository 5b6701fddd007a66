"""Compiled programs on disk: the next process loads them instead of compiling.

JAX finds a program by a hash of its code, the compiler's version and options, and the device; on CPUs that includes the
processor's features. It trusts what it reads. zlib notices most damage, zstd (Python 3.14) none, and machine code with a
flipped bit may compute anything. So every entry here begins with the SHA-256 of the rest, and a damaged one is compiled again.
"""

import hashlib
import os
import platform
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import jax
from absl import logging

from cifar_flax.errors import UserError
from cifar_flax.files.installation import cache_folder
from cifar_flax.runtime.processor import cpu_features

VARIABLE = "CIFAR_FLAX_COMPILATION_CACHE"
MAX_BYTES = 2**30
UNSERIALIZABLE = "Error writing persistent compilation cache entry .*MemoryError"  # jaxlib's for programs that call oneDNN


def enable_persistent_cache() -> Path | None:
    """Initialises the devices, keeps the programs that are compiled from now on, even the smallest, and loads those kept.

    $CIFAR_FLAX_COMPILATION_CACHE is `on` (the default), `off` or a folder. A cache that JAX has already, such as one by
    $JAX_COMPILATION_CACHE_DIR, stays as it is.

    Returns:
      The folder; None where there is no cache.

    Raises:
      UserError: the variable is something else, or $JAX_PLATFORMS names a device that is not here.
    """
    _initialize_devices()
    warnings.filterwarnings("ignore", UNSERIALIZABLE)
    if jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    setting = os.environ.get(VARIABLE) or "on"
    try:
        folder = chosen_folder(setting)
    except RuntimeError as e:  # there is no home directory
        logging.info("compiled programs are not kept: %s", e)
        return None
    if folder is None or not _is_private(folder) or not _install():
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _initialize_devices() -> None:
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as e:  # the latter where a plugin is missing
        platforms = jax.config.jax_platforms
        if not platforms:
            raise
        reason = str(e).partition("\n")[0].partition(" (set ")[0] or "no such plugin is installed"
        raise UserError(f"JAX_PLATFORMS={platforms}: not available here: {reason}; unset it, or set it to cpu") from None


def chosen_folder(setting: str) -> Path | None:
    """The folder of this kind of processor for `on`, `off` or a folder's path; None for `off`.

    Raises:
      UserError: it is none of them.
    """
    if setting == "off":
        return None
    if setting != "on" and os.sep not in setting:
        raise UserError(f"{VARIABLE}={setting}: expected on, off or a folder, such as /tmp/programs")
    folder = cache_folder() / "compilations" if setting == "on" else Path(setting).expanduser().absolute()
    return folder / cpu_fingerprint()


def cpu_fingerprint() -> str:
    """The processor's architecture and a hash of its features: a home may be shared by machines of several kinds."""
    words = sorted(cpu_features()) or [platform.processor()]
    return f"{platform.machine()}-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:12]}"


class VerifiedCache:
    """Entries in files, each the SHA-256 of what follows it; the least recently used make room for new ones.

    It has the methods that JAX calls, from several threads and processes at once. A complete entry is moved into place.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path, self._max_bytes = folder, max_bytes

    def get(self, key: str) -> bytes | None:
        """The entry; None where there is none, or a damaged one, which is removed."""
        path = self._path / key
        try:
            content = path.read_bytes()
            digest, value = content[:32], content[32:]
            if hashlib.sha256(value).digest() != digest:
                logging.warning("%s: damaged; compiling the program again", path)
                path.unlink()
                return None
        except OSError:
            return None
        with suppress(OSError):  # the folder may only be read
            os.utime(path)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Keeps an entry; where it cannot be written, as on a full disk, there is none."""
        with suppress(OSError):
            self._make_room(len(value))
            descriptor, name = tempfile.mkstemp(dir=self._path, prefix=".new-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(hashlib.sha256(value).digest() + value)
                os.replace(name, self._path / key)
            except OSError:
                os.unlink(name)
                raise

    def _make_room(self, size: int) -> None:
        entries = [(entry.stat(), entry.path) for entry in os.scandir(self._path) if entry.is_file()]
        total = size + sum(stat.st_size for stat, _ in entries)
        for stat, path in sorted(entries, key=lambda entry: entry[0].st_mtime):
            if total <= self._max_bytes:
                return
            with suppress(FileNotFoundError):  # another process was quicker
                os.unlink(path)
            total -= stat.st_size


def _is_private(folder: Path) -> bool:
    """Makes the folder, and checks that nobody else may write there: its entries are machine code that is run."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stat = folder.stat()
    except OSError as e:
        logging.info("%s: compiled programs are not kept (%s)", folder, e.strerror)
        return False
    if stat.st_uid != os.getuid() or stat.st_mode & 0o022:
        logging.warning(
            "%s: compiled programs are not kept, because others may write there; set %s to another folder or off",
            folder,
            VARIABLE,
        )
        return False
    return True


def _install() -> bool:
    """Makes JAX read and write through `VerifiedCache`, for which it has no public way."""
    from jax._src import compilation_cache

    if not hasattr(compilation_cache, "get_file_cache"):
        logging.warning("this JAX takes no cache but its own, which checks nothing; compiled programs are not kept")
        return False
    compilation_cache.get_file_cache = lambda path: (VerifiedCache(Path(path)), path)  # type: ignore  # get and put are all it calls
    return True
