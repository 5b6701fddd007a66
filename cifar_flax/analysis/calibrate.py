"""The temperature of a run, fitted to the validation images of a run of the same recipe."""

from typing import NamedTuple

import numpy as np
from absl import logging

from cifar_flax.config.recipe import is_recipe
from cifar_flax.config.serialize import differences
from cifar_flax.errors import UserError
from cifar_flax.evaluation.calibration import Calibration, fit_temperature
from cifar_flax.evaluation.scores import probabilities, reliability
from cifar_flax.files.redact import visible
from cifar_flax.run import Run
from cifar_flax.training.chunks import total_epochs
from cifar_flax.training.records import read_epochs


class FittedTemperature(NamedTuple):
    """A temperature, and the calibration error in [0, 1] on the images it was fitted to, before and after."""

    calibration: Calibration
    ece_before: float
    ece_after: float


def fit_to_validation(run: Run, validated: Run, ema: bool = True) -> FittedTemperature:
    """Fits the temperature of `run` to the validation images of `validated`, which may be the run itself.

    Args:
      run: the run to calibrate.
      validated: a run of the same recipe that held out validation images; its best checkpoint classifies them.
      ema: whether with averaged weights, where the runs keep an average.

    Raises:
      UserError: the recipes or the classes differ, or the validation images or the checkpoint are missing.
    """
    _check_same_recipe(run, validated)
    if run.preprocessing.class_names != validated.preprocessing.class_names:
        raise UserError(f"{validated.workdir} has other classes than {run.workdir}; train it again on the data of today")
    images = validated.dataset("validation")
    logits = validated.network("best", ema).logits(images.images)
    if not np.isfinite(logits).all():
        raise UserError(f"{validated.workdir}: its outputs are not finite: its training diverged")
    temperature = fit_temperature(logits, images.labels)
    source = f"{len(images):,} validation images of {visible(validated.workdir.resolve().name)}"
    before, after = (reliability(probabilities(logits, t), images.labels).ece for t in (1.0, temperature))
    return FittedTemperature(Calibration(temperature, source), before, after)


def warn_of_unfinished(run: Run) -> None:
    """Warns of a run that has not ended: its temperature may be another then."""
    done, planned = [record["epoch"] for record in read_epochs(run.workdir)], total_epochs(run.config)
    if done and max(done) < planned and not run.config.early_stopping.patience:
        logging.warning("%s: after %d of %d epochs; at its end the temperature may be another", run.workdir, max(done), planned)


def _check_same_recipe(run: Run, validated: Run) -> None:
    for path, (mine, other) in differences(run.config, validated.config).items():
        if is_recipe(path):
            raise UserError(
                f"{validated.workdir} has another recipe than {run.workdir}: {path} is {other}, not {mine}; "
                "train the same config with --config.data.validation_fraction=0.1"
            )
