"""Optimizers: optax transforms built from config. A new one is an entry of OPTIMIZERS and of config.Optimizer."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from cifar_flax.config import OptimConfig, Optimizer


def create_optimizer(config: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Builds the transform from gradients to updates: clipping by global norm, then the optimizer at the schedule's rate.

    The schedule counts the transform's own updates, so that its state carries all that the next step needs.
    """
    optimizer = OPTIMIZERS[config.name](config, schedule)
    if config.clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)


def kernels_only(params: Any) -> Any:
    """Mask for weight decay: True for matrices and convolution kernels, False for biases and normalisation."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _sgd(c: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """SGD as Keras and PyTorch have it: L2 decay joins the gradient, momentum is not damped."""
    sgd = optax.sgd(schedule, momentum=c.momentum or None, nesterov=c.nesterov)
    return optax.chain(optax.add_decayed_weights(c.weight_decay, mask=kernels_only), sgd) if c.weight_decay else sgd


OPTIMIZERS: dict[Optimizer, Callable[[OptimConfig, optax.Schedule], optax.GradientTransformation]] = {
    Optimizer.ADAM: lambda c, schedule: optax.adam(schedule, c.b1, c.b2, c.eps),
    Optimizer.ADAMW: lambda c, schedule: optax.adamw(
        schedule, c.b1, c.b2, c.eps, weight_decay=c.weight_decay, mask=kernels_only
    ),
    Optimizer.SGD: _sgd,
}
