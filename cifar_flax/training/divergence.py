"""Trainings that diverge: found by the losses and gradients of their steps, and by their weights before these are saved."""

import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cifar_flax.errors import Diverged
from cifar_flax.runtime import compilation
from cifar_flax.training.state import TrainState

WATCHED = {"loss": "loss", "grad_norm": "gradient"}  # metrics of a step, and what people call them


def check_step(values: Mapping[str, float], where: str) -> None:
    """Checks the metrics of a step; `where` names the step and the run.

    Raises:
      Diverged: the loss or the gradient is not finite.
    """
    for name, what in WATCHED.items():
        if not math.isfinite(values[name]):
            raise _diverged(f"the {what} is not finite at {where}")


def check_weights(state: TrainState, losses: Collection[float], where: str) -> None:
    """Checks the weights after a step, of whose update its own loss and gradient do not tell yet.

    Args:
      state: after the step.
      losses: of the weights on validation images; where all are finite, so are the weights.
      where: names the step and the run.

    Raises:
      Diverged: a weight is not finite.
    """
    if losses and all(map(math.isfinite, losses)):
        return
    if not np.asarray(_all_finite()(state.params)):
        raise _diverged(f"the weights are not finite after {where}")


@functools.cache
def _all_finite() -> Callable[[Any], jax.Array]:
    """A program that tells whether all numbers of a tree are finite."""
    return compilation.jit(lambda tree: jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all())


def _diverged(what: str) -> Diverged:
    return Diverged(f"{what}; try a lower config.optim.learning_rate. What was saved before is intact.")
