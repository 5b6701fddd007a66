"""Atomic writes: a file has its old content or its new content at any moment, whatever interrupts the writer."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Creates or replaces a file.

    Raises:
      OSError: the file cannot be written, `path` is its `filename`, and what was there is unchanged.
    """
    try:
        os.replace(write_temporary(path.parent, lambda file: file.write(content)), path)
    except OSError as e:
        e.filename, e.filename2 = str(path), None  # not the temporary file, which nobody knows
        raise


def write_temporary(folder: Path, fill: Callable[[BinaryIO], object]) -> Path:
    """Writes a new file under a hidden unique name and flushes it to disk; the caller moves it to its place.

    Args:
      folder: of the file's later place, so that moving it there is atomic.
      fill: writes the content into the open file.

    Returns:
      Path of the file, `folder/.new-*`.

    Raises:
      OSError: it cannot be written; nothing is left of it.
    """
    temporary = folder / f".new-{uuid.uuid4().hex[:12]}"  # unique, because processes write the same file at the same time
    try:
        with temporary.open("xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
