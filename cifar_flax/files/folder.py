"""Folders that a stranger may have filled: nothing is written through a link, and only bounded regular files are read."""

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, TextIO

LARGEST_JSON = 64 << 20  # bytes; a data set of 10,000 long class names takes a few megabytes


def make_folder(path: Path) -> None:
    """Makes a folder where there is none, with those above it.

    Raises:
      OSError: it cannot be made, or a link is in its place (ELOOP).
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    path.mkdir(parents=True, exist_ok=True)


def open_to_append(path: Path) -> TextIO:
    """Opens a text file for reading and appending, and makes it where there is none.

    Raises:
      OSError: it cannot be opened, or a link is in its place (ELOOP).
    """
    return os.fdopen(
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "a+", encoding="utf-8"
    )


def open_regular(path: Path) -> TextIO:
    """Opens a text file for reading; bytes that are not UTF-8 become U+FFFD. Raises as `open_regular_bytes`."""
    return io.TextIOWrapper(open_regular_bytes(path), encoding="utf-8", errors="replace")


def open_regular_bytes(path: Path) -> BinaryIO:
    """Opens a file for reading.

    Raises:
      OSError: it cannot be opened.
      ValueError: it is a device, a pipe or a folder.
    """
    # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("not a regular file")
    return os.fdopen(descriptor, "rb")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      OSError: it cannot be read.
      ValueError: it is not JSON, nested too deeply, larger than LARGEST_JSON, or no regular file.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_JSON:
            raise ValueError(f"larger than {LARGEST_JSON >> 20} MB")
        return parse_json(file.read())


def parse_json(text: str) -> Any:
    """Returns what a JSON text holds.

    Raises:
      ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
