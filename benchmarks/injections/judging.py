"""What is made of a run or a cache with a fault in it, read in this process."""

import contextlib
import faulthandler
import io
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from absl import logging as absl_logging

import cifar_flax
from benchmarks.injections.scene import TIMEOUT, Outcome, Result
from cifar_flax.errors import CifarFlaxError

Reader = Callable[[Path], dict[str, Any]]
OURS = Path(cifar_flax.__file__).parent
OF_THE_PAST = ("best", "records")  # parts that a fault may take something from, if that is said


def judge(injection: str, folder: Path, damaged: dict[Path, bytes], read: Reader, expected: dict[str, Any]) -> Result:
    """Reads a folder with damaged files in it, and says how that ended.

    Args:
      injection: what was done.
      folder: a run directory, a cache, or whatever `read` reads.
      damaged: the damaged files, relative to `folder`, with their former content.
      read: uses the folder; returns what came of it, by part.
      expected: what comes of it without a fault.

    Returns:
      EXACT, or FELL_BACK where something was said; STOPPED where a line was raised and, with the files as they were, all is as
      expected. All else is FAILED.
    """
    said: list[str] = []
    found, line = _read(read, folder, said)
    if found is None:
        return _stopped(injection, line, folder, damaged, read, expected)
    differ = [part for part in expected if found[part] != expected[part]]
    lost = [part for part in differ if not said or part not in OF_THE_PAST]
    if lost:
        return Result(injection, Outcome.FAILED, f"{', '.join(lost)} silently differ; said: {said}")
    return Result(injection, Outcome.FELL_BACK if said else Outcome.EXACT, said[0] if said else "")


def _stopped(
    injection: str, line: str, folder: Path, damaged: dict[Path, bytes], read: Reader, expected: dict[str, Any]
) -> Result:
    if "\n" in line:  # a traceback too is what no user should see
        return Result(injection, Outcome.FAILED, line)
    for moved in folder.glob("*.damaged-*"):
        moved.rename(folder / moved.name.partition(".damaged-")[0])
    for file, content in damaged.items():
        (folder / file).write_bytes(content)
    found, problem = _read(read, folder, [])
    differ = [part for part in expected if found is None or found[part] != expected[part]]
    if differ:
        return Result(injection, Outcome.FAILED, f"stopped ({line}); once mended, {problem or ', '.join(differ)} differs")
    return Result(injection, Outcome.STOPPED, line)


def _read(read: Reader, folder: Path, said: list[str]) -> tuple[dict[str, Any] | None, str]:
    """What is read, or None and what is raised: the line of an error that is meant for users, or else the traceback."""
    with _watched(said):
        try:
            return read(folder), ""
        except CifarFlaxError as e:
            return None, str(e)
        except Exception:
            return None, f"\n{traceback.format_exc()[-800:]}"


@contextlib.contextmanager
def _watched(said: list[str]) -> Iterator[None]:
    """Adds our warnings to `said`; a hang ends this process with a traceback of each thread."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if OURS in Path(record.pathname).parents:  # others' are not shown by the commands either
                said.append(record.getMessage())

    listener, terminal = Listener(logging.WARNING), absl_logging.get_absl_handler()
    level = terminal.level
    logging.getLogger().addHandler(listener)
    terminal.setLevel(logging.CRITICAL)
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        terminal.setLevel(level)
        logging.getLogger().removeHandler(listener)
