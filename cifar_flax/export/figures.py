"""The figures that an exported file states of itself: of its own weights and temperature."""

import math
from pathlib import Path
from typing import Any

from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.network import Network
from cifar_flax.pretrained.weights import as_stored, check_figures
from cifar_flax.run import BareRun, Run
from cifar_flax.runtime.flag_values import STORED, Format, KernelDtype


def as_exported(run: Run, network: Network, how: Format, dtype: KernelDtype, ema: bool = True) -> Network:
    """The network as the file has it, with figures that are its own.

    Those that `evaluate` wrote are taken. Where the dtype changes a value, or the network was calibrated after its
    evaluation, they are measured again.

    Args:
      run: of the network.
      network: the run's, which may be given figures.
      how: the format.
      dtype: of kernels, in formats that are weights.
      ema: whether the weights are those of the usual report: averaged ones where the run kept an average.

    Raises:
      UserError: the report is damaged; or the figures are to be measured again, and the test images are not here, or not those
        of the run.
    """
    if not isinstance(run, BareRun):
        about = {"checkpoint": network.step, "ema": ema, "tta": "none"}
        network.figures = _recorded(run.report_folder / ("test.json" if ema else "test_raw.json"), about)
    exported = as_stored(network, dtype) if how in STORED else network
    figures, calibrated = network.figures, network.figures.get("temperature", network.temperature) != network.temperature
    if figures and (exported is not network or calibrated) and how is not Format.STABLEHLO:  # which has none
        _check_measurable(run, calibrated)
        exported.figures = {"split": "test", **_numbers(exported.evaluate("test"))}
    return exported


def _check_measurable(run: Run, calibrated: bool) -> None:
    """Refuses to export where figures would not be those of the file, and cannot be measured again.

    Raises:
      UserError: the test images are not here, or not those of the run.
    """
    try:
        run.dataset("test")
    except UserError as e:
        why = "it was calibrated after it was evaluated" if calibrated else "its kernels would be rounded to another dtype"
        kept = "" if calibrated else ", or give --dtype=float32, which rounds nothing"
        problem = str(e).splitlines()[0].partition(". ")[0].rstrip(":.")
        raise UserError(f"{why}, so that its figures are to be measured again: {problem}; bring the data here{kept}") from None


def _recorded(report: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The test scores in single numbers, of this very checkpoint; empty where it was not evaluated."""
    try:
        scores = read_checksummed(report) if report.exists() else {}
    except ValueError as e:
        raise UserError(f"{report}: damaged: {e}; evaluate the run again") from None
    figures = {"split": "test", **_numbers(scores)} if about.items() <= scores.items() else {}
    try:
        check_figures(figures)
    except UserError as e:
        raise UserError(f"{report}: {e}") from None
    return figures


def _numbers(scores: dict[str, Any]) -> dict[str, float]:
    """The figures that a file can state: of a network that has diverged some are not finite."""
    numbers = {name: value for name, value in scores.items() if type(value) in (int, float) and name != "checkpoint"}
    return {name: value for name, value in numbers.items() if type(value) is int or math.isfinite(value)}
