"""Networks from the checkpoints of a run, also of one that is still training."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from cifar_flax.config import CheckpointConfig, Config
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.evaluation.calibration import Calibration
from cifar_flax.models import Variables, create_model, initialize
from cifar_flax.network import Network
from cifar_flax.runtime.arithmetic import standard_arithmetic
from cifar_flax.training.calibration import calibration_of
from cifar_flax.training.checkpoints.files import CHECKPOINTS, steps_in
from cifar_flax.training.checkpoints.manager import Checkpoints

T = TypeVar("T")
ATTEMPTS = 20  # to read checkpoints while a training replaces them
REMOVAL_SECONDS = 0.2  # that a training takes to remove a checkpoint, file by file


def find_step(workdir: Path, which: str | int) -> int:
    """The step that "best", "latest" or a number stands for; raises as `Checkpoints.find`."""
    return _read_checkpoints(workdir, lambda checkpoints: checkpoints.find(which))


def find_calibration(workdir: Path, step: int, ema: bool) -> Calibration:
    """The calibration of a checkpoint; see `calibration.calibration_of`."""
    scores = _read_checkpoints(workdir, lambda checkpoints: checkpoints.scores(step))
    return calibration_of(workdir, step, scores, ema)


@standard_arithmetic()
def restore_networks(
    workdir: Path, config: Config, preprocessing: Preprocessing, which: str | int = "best"
) -> tuple[Network, Network]:
    """Loads a checkpoint of a run, trained on whatever devices.

    Args:
      workdir: the run directory; the networks are called as the folder.
      config: of the run.
      preprocessing: of the run.
      which: "best" by validation top-1 (the latest where there was no validation), "latest", or a step.

    Returns:
      The network with the averaged weights where the run kept an average, and the one with the weights of the last update;
      read together, because a run that is still training may remove the checkpoint.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """

    def restore(checkpoints: Checkpoints) -> tuple[int, dict[str, float], tuple[Variables, Variables]]:
        step = checkpoints.find(which)
        try:
            return step, checkpoints.scores(step), _variables(checkpoints, step, config, preprocessing)
        except UserError as e:
            time.sleep(REMOVAL_SECONDS)
            if step in _read_checkpoints(workdir, lambda checkpoints: checkpoints.steps()):
                raise
            raise FileNotFoundError(step) from e

    step, scores, (averaged, raw) = _read_checkpoints(workdir, restore)

    def network(variables: Variables, ema: bool) -> Network:
        calibration = calibration_of(workdir, step, scores, ema)
        return Network(config, preprocessing, variables, workdir.resolve().name, step=step, calibration=calibration)

    return network(averaged, True), network(raw, config.optim.ema_decay is None)


def _variables(
    checkpoints: Checkpoints, step: int, config: Config, preprocessing: Preprocessing
) -> tuple[Variables, Variables]:
    model = create_model(config.model, preprocessing.num_classes)
    image = jax.ShapeDtypeStruct((1, *preprocessing.image_shape), jnp.float32)
    shapes = {"batch_stats": {}, **jax.eval_shape(lambda image: initialize(model, jax.random.key(0), image), image)}
    sharding = SingleDeviceSharding(jax.local_devices()[0])  # this process reads alone; what computes spreads them
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
    return checkpoints.restore_variables(step, like, has_ema=config.optim.ema_decay is not None)


def _read_checkpoints(workdir: Path, read: Callable[[Checkpoints], T]) -> T:
    """Opens them anew for each attempt: a run that is still training writes new ones, and removes old ones meanwhile."""
    for _ in range(ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            checkpoints = Checkpoints(workdir, CheckpointConfig(), read_only=True)
            if checkpoints.steps() or not steps_in(workdir / CHECKPOINTS):  # else all that it listed were removed meanwhile
                return read(checkpoints)
    raise UserError(f"{workdir}: its checkpoints are replaced faster than they can be read; try again")
