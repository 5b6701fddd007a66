"""The verdict on damaged files: read as if sound, a stated fallback, or a stop with one line."""

import contextlib
import logging
import traceback
from pathlib import Path

from absl import logging as absl_logging

import cifar_flax
from cifar_flax.errors import CifarFlaxError

PACKAGE = Path(cifar_flax.__file__).parent
REPLACEABLE = ("best", "records")  # parts that a fault may change, with a warning


def problem_with(folder, damaged, read, expected, silently=()):
    """Reads a folder with damaged files; returns the problem with what happens, or "".

    Args:
      folder: a run directory, a cache, or whatever `read` reads.
      damaged: the damaged files, relative to `folder`, with their original content.
      read: uses the folder; returns the results by part.
      expected: the results without a fault.
      silently: parts that may differ without a warning.
    """
    results, error, warnings = _read(read, folder)
    if results is None:
        if "\n" in error:  # a traceback, or several lines, which no user should see
            return error
        return _problem_once_mended(folder, damaged, read, expected, error)
    differing = [part for part in expected if results[part] != expected[part] and part not in silently]
    unexpected = [part for part in differing if not warnings or part not in REPLACEABLE]
    return f"{', '.join(unexpected)} differ; warnings: {warnings}" if unexpected else ""


def _problem_once_mended(folder, damaged, read, expected, error):
    for moved in folder.glob("*.damaged-*"):
        moved.rename(folder / moved.name.partition(".damaged-")[0])
    for file, original in damaged.items():
        (folder / file).write_bytes(original)
    results, problem, _ = _read(read, folder)
    if results is None:
        return f"stopped ({error}); once mended: {problem}"
    differing = [part for part in expected if results[part] != expected[part]]
    return f"stopped ({error}); once mended, {', '.join(differing)} differ" if differing else ""


def _read(read, folder):
    """Returns (results or None, error line or traceback, warnings)."""
    with _warnings() as warnings:
        try:
            return read(folder), "", warnings
        except CifarFlaxError as e:
            return None, str(e), warnings
        except Exception:
            return None, f"\n{traceback.format_exc()[-800:]}", warnings


@contextlib.contextmanager
def _warnings():
    """Collects the warnings of the package, and keeps them off the terminal."""
    warnings = []

    class Listener(logging.Handler):
        def emit(self, record):
            if PACKAGE in Path(record.pathname).parents:  # the commands hide those of other packages too
                warnings.append(record.getMessage())

    listener, terminal = Listener(logging.WARNING), absl_logging.get_absl_handler()
    level = terminal.level
    logging.getLogger().addHandler(listener)
    terminal.setLevel(logging.CRITICAL)
    try:
        yield warnings
    finally:
        terminal.setLevel(level)
        logging.getLogger().removeHandler(listener)
