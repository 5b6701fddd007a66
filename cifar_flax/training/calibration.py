"""The temperature of a run: fitted to its own validation images, or taken from a run of the same recipe that had some."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from cifar_flax.errors import UserError
from cifar_flax.evaluation.calibration import UNCALIBRATED, Calibration
from cifar_flax.files.atomic import write_bytes, write_text
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from cifar_flax.runtime.command_line import typed

FILE = "calibration.json"  # of a run without validation images


class _Damaged(UserError):
    """The file is damaged, or of another version; it is to be written again."""


def calibration_of(workdir: Path, step: int, scores: Mapping[str, float], ema: bool) -> Calibration:
    """The calibration of a checkpoint.

    Args:
      workdir: the run directory, whose calibration.json comes first where it is of this checkpoint.
      step: of the checkpoint.
      scores: of the checkpoint on the validation split; {} without one.
      ema: whether it is of the averaged weights, or of those of a run that keeps no average.

    Raises:
      UserError: calibration.json is damaged, of another version, or cannot be read.
    """
    name = "temperature" if ema else "raw_temperature"
    if step in (saved := _read(workdir)):
        return saved[step][name]
    return Calibration(scores[name], "its validation images") if name in scores else UNCALIBRATED


@contextlib.contextmanager
def without_damaged(workdir: Path) -> Iterator[None]:
    """A context without a damaged calibration.json, with which no network of the run can be loaded, to be calibrated anew.

    After an error it is there again: the run would count as one that nobody has calibrated.
    """
    try:
        _read(workdir)
        damaged = None
    except _Damaged:
        damaged = (workdir / FILE).read_bytes()
        (workdir / FILE).unlink()
    try:
        yield
    except BaseException:
        if damaged is not None:
            write_bytes(workdir / FILE, damaged)
        raise


def write_calibration(workdir: Path, step: int, averaged: Calibration, raw: Calibration) -> Path:
    """Writes RUN/calibration.json and returns its path.

    Args:
      workdir: the run directory.
      step: of the checkpoint that is calibrated; others of the run are not.
      averaged: of the averaged weights where the run keeps an average.
      raw: of the weights of the last update; the same where there is no average.
    """
    temperatures = {"temperature": averaged.temperature, "raw_temperature": raw.temperature}
    values = {"step": step, **temperatures, "source": averaged.source}
    write_text(workdir / FILE, dumps_checksummed(values))
    return workdir / FILE


def _read(workdir: Path) -> dict[int, dict[str, Calibration]]:
    """The calibrations in calibration.json by the step of their checkpoint and name; {} where there is no file."""
    path = workdir / FILE
    try:
        saved = read_checksummed(path)
        names = ("temperature", "raw_temperature")
        return {saved["step"]: {name: Calibration(float(saved[name]), str(saved["source"])) for name in names}}
    except FileNotFoundError:
        return {}
    except KeyError:
        raise _Damaged(f"{path}: of another version of cifar_flax; write it again with {typed('calibrate')}") from None
    except (ValueError, TypeError) as e:
        raise _Damaged(f"{path}: damaged ({e}); write it again with {typed('calibrate')}, or remove it") from None
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror or e})") from None
