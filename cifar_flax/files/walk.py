"""The files of a folder and below, those behind links to folders too."""

import os
from collections import deque
from pathlib import Path

from cifar_flax.errors import UserError

LITTER = ("__macosx", "@eadir", "thumbs.db", "desktop.ini", "icon\r", "lost+found")  # that systems leave beside hidden files


def is_shown(name: str) -> bool:
    """Whether a file or folder of this name is somebody's: neither hidden nor LITTER."""
    return not name.startswith(".") and name.lower() not in LITTER


def files_below(folder: Path, unlisted: dict[Path, str] | None = None) -> list[Path]:
    """Lists the files in a folder and below, without hidden ones, LITTER, and those in such folders.

    Links to folders are followed. A folder that can be reached by several paths is listed once, by one without links where
    there is one, so that links in a circle come to an end.

    Args:
      folder: the folder; hidden or not.
      unlisted: gets the folders that cannot be listed, with why; None where there must be none.

    Returns:
      The files, sorted, as paths that begin with `folder`: all that are no folders, links that lead nowhere and pipes too.

    Raises:
      UserError: a folder cannot be listed.
    """
    files: list[Path] = []
    listed: set[tuple[int, int]] = set()
    folders, links = deque([str(folder)]), deque[str]()
    while folders or links:
        here = (folders or links).popleft()
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in listed:
                continue
            listed.add((status.st_dev, status.st_ino))
            for entry in sorted(os.scandir(here), key=lambda entry: entry.name):
                if not is_shown(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_symlink() and os.path.isdir(entry.path):
                    links.append(entry.path)
                else:
                    files.append(Path(entry.path))
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
            continue
        except OSError as e:
            if unlisted is None:
                raise UserError(f"{here}: cannot be listed ({e.strerror}); make it readable, or remove it") from None
            unlisted[Path(here)] = str(e.strerror)
    return sorted(files)
