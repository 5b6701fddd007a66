"""Locks between processes."""

import errno
import fcntl
from pathlib import Path
from typing import TextIO

from absl import logging

from cifar_flax.files.folder import open_to_append

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def exclusive_lock(path: Path, wait: bool = True) -> TextIO:
    """Locks a file, which is created where it is missing, against the other callers of this function.

    The lock is advisory, and ends when the file is closed or the process dies: `with exclusive_lock(path): ...`. On a file
    system without locks there is a warning, and nobody is kept out.

    Args:
      path: the file.
      wait: for another process to release the lock.

    Returns:
      The locked file, open for reading and appending.

    Raises:
      BlockingIOError: another process holds the lock, and `wait` is False.
      OSError: the file cannot be opened, or a link is in its place.
    """
    file = open_to_append(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as e:
        if e.errno not in WITHOUT_LOCKS:
            file.close()
            raise
        logging.warning(
            "%s: this file system has no locks (%s); see to it that one process alone writes there", path, e.strerror
        )
    except BaseException:
        file.close()
        raise
    return file
