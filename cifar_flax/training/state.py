"""The arrays that change while training, and their initial values."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from cifar_flax.config import Config
from cifar_flax.evaluation.metrics import Metrics
from cifar_flax.models import Variables, initialize

INITIALIZATION = 2**32 - 1  # folded into the key of the seed, where steps fold in their number


@struct.dataclass
class TrainState:
    """The state of a run after `step` updates; with the config it determines all that follows.

    The seed is part of it, so that one compiled program serves all seeds.

    Attributes:
      step: int32 [], updates made.
      seed: uint32 [], of the run.
      params: float32 tree.
      batch_stats: float32 tree, the running statistics of BatchNorm; empty without.
      opt_state: of the optax transform.
      ema: {"params", "batch_stats"} averaged over the updates, or None.
      metrics: accumulated over the current epoch.
      learning_rate_scale: float32 [], factor on top of the schedule, or None where no plateau lowers the rate.
    """

    step: jax.Array
    seed: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Variables | None
    metrics: Metrics
    learning_rate_scale: jax.Array | None = None

    @property
    def raw_variables(self) -> Variables:
        """The weights that the optimizer updates."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def eval_variables(self) -> Variables:
        """The weights to evaluate and to ship: averaged ones where there are any."""
        return self.raw_variables if self.ema is None else self.ema


def initial_opt_state(optimizer: optax.GradientTransformation, params: Any) -> optax.OptState:
    """The optimizer's state before the first update, of arrays of its own: the step gives each buffer away once."""
    return jax.tree.map(jnp.copy, optimizer.init(params))


def initial_state(
    config: Config, model: nn.Module, optimizer: optax.GradientTransformation, seed: jax.Array, first_images: jax.Array
) -> TrainState:
    """The state before the first update, to be called within jit.

    Args:
      config: of the run; its seed is not looked at.
      model: with `num_classes` logits.
      optimizer: the optax transform.
      seed: uint32 [].
      first_images: float32 [N, H, W, C], normalised training images, for layers that are computed from data.
    """
    variables = initialize(model, jax.random.fold_in(jax.random.key(seed), INITIALIZATION), first_images)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    # A copy: the step donates its input, and one buffer cannot be given away twice.
    ema = None if config.optim.ema_decay is None else jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(seed, jnp.uint32),
        params=params,
        batch_stats=batch_stats,
        opt_state=initial_opt_state(optimizer, params),
        ema=ema,
        metrics=Metrics.empty(),
        learning_rate_scale=jnp.ones((), jnp.float32) if config.plateau.patience else None,
    )
