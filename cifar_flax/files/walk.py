"""The files of a folder and below, those behind links to folders too."""

import os
from collections import deque
from contextlib import suppress
from pathlib import Path

LITTER = ("__macosx", "@eadir", "thumbs.db", "desktop.ini", "icon\r")  # that operating systems leave beside the hidden files


def is_shown(name: str) -> bool:
    """Whether a file or folder of this name is somebody's: neither hidden nor LITTER."""
    return not name.startswith(".") and name.lower() not in LITTER


def files_below(folder: Path) -> list[Path]:
    """Lists the files in a folder and below, without hidden ones, LITTER, and those in such folders.

    Links to folders are followed. A folder that can be reached by several paths is listed once, by one without links where
    there is one, so that links in a circle come to an end.

    Args:
      folder: the folder; hidden or not.

    Returns:
      The files, sorted, as paths that begin with `folder`: all that are no folders, links that lead nowhere and pipes too.
      A folder that cannot be listed has none.
    """
    files: list[Path] = []
    listed: set[tuple[int, int]] = set()
    folders, links = deque([str(folder)]), deque[str]()
    while folders or links:
        here = (folders or links).popleft()
        with suppress(OSError):
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
    return sorted(files)
