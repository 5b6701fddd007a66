"""All that changes while training, and how it begins."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from cifar_flax.config import Config
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.evaluation.metrics import Metrics
from cifar_flax.models import Variables, create_model, initialize
from cifar_flax.optim.optimizers import create_optimizer
from cifar_flax.optim.schedules import create_schedule
from cifar_flax.runtime.devices import check_fits_in_memory, replicated
from cifar_flax.training.callbacks import EarlyStoppingState, PlateauState


@struct.dataclass
class TrainState:
    """The state of a run after `step` updates; with the config it determines all that follows.

    Attributes:
      step: int32 [], updates made.
      params: float32 tree.
      batch_stats: float32 tree, the running statistics of BatchNorm; empty without.
      opt_state: of the optax transform.
      ema: {"params", "batch_stats"} averaged over the updates, or None.
      metrics: accumulated over the current epoch.
      plateau: what lowers the learning rate, or None.
      stopping: what ends training early, or None.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Variables | None
    metrics: Metrics
    plateau: PlateauState | None = None
    stopping: EarlyStoppingState | None = None

    @property
    def learning_rate_scale(self) -> float:
        """What the scheduled learning rate is multiplied with."""
        return 1.0 if self.plateau is None else float(self.plateau.scale)

    @property
    def eval_variables(self) -> Variables:
        """What to evaluate and to ship: the average where there is one."""
        return {"params": self.params, "batch_stats": self.batch_stats} if self.ema is None else self.ema


def run_key(seed: int) -> jax.Array:
    """The PRNG key that all of a run's randomness on the device comes from."""
    return jax.random.key(seed)


def initial_state(
    config: Config, model: nn.Module, optimizer: optax.GradientTransformation, first_images: jax.Array
) -> TrainState:
    """The state before the first update; `first_images` as in `models.initialize`."""
    variables = initialize(model, jax.random.fold_in(run_key(config.seed), 2**32 - 1), first_images)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    # A copy: the step donates its input, and one buffer cannot be given away twice.
    ema = None if config.optim.ema_decay is None else jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        ema=ema,
        metrics=Metrics.empty(model.num_classes),
        plateau=PlateauState.create(config.plateau),
        stopping=EarlyStoppingState.create(config.early_stopping),
    )


def create_state(
    config: Config, model: nn.Module, optimizer: optax.GradientTransformation, first_images: Any, mesh: Mesh
) -> TrainState:
    """Builds the initial state, replicated over the mesh.

    Raises:
      UserError: it is too large for a device.
    """
    build = _builder(config, model, optimizer)
    check_fits_in_memory(jax.eval_shape(build, first_images))
    return cast(TrainState, jax.jit(build, out_shardings=replicated(mesh))(first_images))


def abstract_state(config: Config, preprocessing: Preprocessing, mesh: Mesh) -> TrainState:
    """The shapes, dtypes and shardings of the state, for restoring into; those of a run that has ended as well."""
    model = create_model(config.model, preprocessing.num_classes)
    optimizer = create_optimizer(config.optim, create_schedule(config.optim, 1, 1))  # the same shapes for any length
    images = jax.ShapeDtypeStruct((1, *preprocessing.image_shape), jnp.float32)
    shapes = jax.eval_shape(_builder(config, model, optimizer), images)
    sharding = replicated(mesh)
    return cast(TrainState, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes))


def _builder(config: Config, model: nn.Module, optimizer: optax.GradientTransformation) -> Callable[[Any], TrainState]:
    return lambda first_images: initial_state(config, model, optimizer, first_images)
