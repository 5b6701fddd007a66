"""Locks between processes."""

import fcntl
from pathlib import Path
from typing import TextIO


def exclusive_lock(path: Path, wait: bool = True) -> TextIO:
    """Locks a file, which is created where it is missing, against the other callers of this function.

    The lock is advisory, and ends when the file is closed or the process dies: `with exclusive_lock(path): ...`.

    Args:
      path: the file.
      wait: for another process to release the lock.

    Returns:
      The locked file, open for reading and appending.

    Raises:
      BlockingIOError: another process holds the lock, and `wait` is False.
      OSError: the file cannot be opened.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        file.close()
        raise
    return file
