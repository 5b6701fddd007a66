"""The path of a run's checkpoints, as Orbax and TensorStore can write and read it."""

import os
from collections.abc import Iterator
from pathlib import Path

from etils import epath  # type: ignore[import-untyped]

from cifar_flax.errors import UserError

MAX_PATH_BYTES = 3800  # bytes of a run's path: Linux opens paths of 4095, and those below it are 150 longer

_LocalPath: type[epath.Path] = type(epath.Path("/"))


class LiteralPath(_LocalPath):  # type: ignore[misc]  # the class is private, and depends on the system
    """A folder whose path may hold `[ ]` and `**`.

    Orbax looks for what it has written by a pattern under the folder's path, and etils takes the path for a part of it. Where
    nothing matches, Orbax writes a checkpoint that cannot be read.
    """

    def glob(self, pattern: str) -> Iterator["LiteralPath"]:
        """Yields what matches the pattern in this folder, as `pathlib` does."""
        return map(type(self), Path(self).glob(pattern))


def checkpoint_folder(workdir: Path) -> epath.Path:
    """The folder of a run's checkpoints, absolute, for Orbax.

    Raises:
      UserError: checkpoints cannot be written there, or not be read.
    """
    folder, reason = workdir.absolute() / "checkpoints", ""
    path = LiteralPath(folder)
    if any("\ud800" <= c <= "\udfff" for c in str(folder)):
        reason = "is not UTF-8"
    elif "\\" in str(folder):  # which TensorStore takes for a slash
        reason = "holds a backslash"
    elif str(path) != str(folder) or "gs:/" in str(folder):  # a folder /s3, or gs:
        reason = "looks like an address in a cloud"
    elif len(os.fsencode(folder)) > MAX_PATH_BYTES:
        reason = f"is longer than {MAX_PATH_BYTES} bytes"
    if reason:
        raise UserError(f"{workdir}: its path {reason}, and no checkpoint can be written or read there; choose another folder")
    return path
