"""What is done when validation no longer improves: the learning rate falls, and training ends."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from cifar_flax.config import EarlyStoppingConfig, PlateauConfig
from cifar_flax.config.types import Monitor


@struct.dataclass
class PlateauState:
    """What lowering the learning rate remembers from epoch to epoch.

    Attributes:
      best: float32 [], the best score so far.
      wait: int32 [], epochs since then, or since the rate last fell, that count.
      cooldown: int32 [], epochs ahead of which none counts.
      scale: float32 [], what the scheduled learning rate is multiplied with.
    """

    best: jax.Array
    wait: jax.Array
    cooldown: jax.Array
    scale: jax.Array

    @classmethod
    def create(cls, config: PlateauConfig) -> "PlateauState | None":
        """The state before the first epoch; None where the rate only follows its schedule."""
        return cls(_worst(config.monitor), jnp.int32(0), jnp.int32(0), jnp.float32(1)) if config.patience else None


@struct.dataclass
class EarlyStoppingState:
    """What early stopping remembers: the best score so far, float32 [], and the epochs since then, int32 []."""

    best: jax.Array
    wait: jax.Array

    @classmethod
    def create(cls, config: EarlyStoppingConfig) -> "EarlyStoppingState | None":
        """The state before the first epoch; None where training takes all its epochs."""
        return cls(_worst(config.monitor), jnp.int32(0)) if config.patience else None


def lower_on_plateau(state: PlateauState, config: PlateauConfig, peak: float, scores: Mapping[str, float]) -> PlateauState:
    """The state after an epoch with these validation scores, on the host: Keras' ReduceLROnPlateau.

    Args:
      state: before.
      config: when the rate falls and how far.
      peak: the schedule's highest rate; `min_learning_rate` is where `peak * scale` comes to rest.
      scores: of validation, `monitor` among them.
    """
    best, wait, cooldown, scale = float(state.best), int(state.wait), int(state.cooldown), float(state.scale)
    if cooldown:
        cooldown, wait = cooldown - 1, 0
    score, floor = scores[config.monitor], float(np.float32(config.min_learning_rate / peak))
    if _improves(score, best, config.min_delta, config.monitor):
        best, wait = score, 0
    elif not cooldown:
        wait += 1
        if wait >= config.patience and scale > floor:
            scale, wait, cooldown = max(scale * config.factor, floor), 0, config.cooldown
    return PlateauState(jnp.float32(best), jnp.int32(wait), jnp.int32(cooldown), jnp.float32(scale))


def count_epochs_without_improvement(
    state: EarlyStoppingState, config: EarlyStoppingConfig, scores: Mapping[str, float]
) -> EarlyStoppingState:
    """The state after an epoch with these validation scores, on the host: Keras' EarlyStopping."""
    score = scores[config.monitor]
    if _improves(score, float(state.best), config.min_delta, config.monitor):
        return EarlyStoppingState(jnp.float32(score), jnp.int32(0))
    return EarlyStoppingState(state.best, state.wait + 1)


def should_stop(state: EarlyStoppingState | None, config: EarlyStoppingConfig) -> bool:
    """Whether early stopping has ended the run."""
    return state is not None and int(state.wait) >= config.patience


def _worst(monitor: Monitor) -> jax.Array:
    return jnp.float32(math.inf if monitor is Monitor.LOSS else -math.inf)


def _improves(score: float, best: float, min_delta: float, monitor: Monitor) -> bool:
    """Whether `score` is better than `best` by more than `min_delta`, in float32 as the state is; a NaN never is."""
    if monitor is Monitor.LOSS:
        return bool(np.float32(score + min_delta) < np.float32(best))
    return bool(np.float32(score - min_delta) > np.float32(best))
