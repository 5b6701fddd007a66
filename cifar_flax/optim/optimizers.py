"""Optimizers: optax transforms built from config. A new one is an entry of OPTIMIZERS and of choices.Optimizer."""

import math
from collections.abc import Callable
from typing import Any

import jax
import optax

from cifar_flax.config import OptimConfig
from cifar_flax.config.types import Optimizer
from cifar_flax.optim.freezing import leave_out_frozen
from cifar_flax.optim.groups import decay_kernels, path_name, scale_groups
from cifar_flax.optim.muon import renormalize, scale_by_orthogonalized_momentum

MUON_RMS = 0.2  # of its updates, as large as AdamW's are; Liu et al., "Muon is Scalable for LLM Training", 2025, section 2.2


def create_optimizer(config: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Builds the transform from gradients to updates.

    That is clipping by global norm, then the optimizer at the schedule's rate, then the factors of the groups; frozen
    parameters take part in none of it and have no state. The schedule counts the transform's own updates, so that its state
    carries all that the next step needs; how long the schedule is changes nothing in the state's shapes.
    """
    optimizer = OPTIMIZERS[config.name](config, schedule)
    if config.clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    if config.groups:
        optimizer = optax.chain(optimizer, scale_groups(config))
    return leave_out_frozen(optimizer, config.freeze) if config.freeze else optimizer


def _sgd(c: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """SGD as PyTorch has it, and Keras but for the decay: L2 decay joins the gradient, momentum is not damped."""
    return optax.chain(decay_kernels(c), optax.sgd(schedule, c.momentum or None, c.nesterov))


def _rmsprop(c: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """RMSprop as Keras had it when the CIFAR write-ups used it: lr g / (sqrt(v) + eps); momentum is of those updates.

    Since TensorFlow 2.11 it divides by sqrt(v + eps) instead, which holds small gradients back far more.
    """
    return optax.rmsprop(schedule, _or(c.rho, 0.9), c.eps, eps_in_sqrt=False, momentum=c.momentum or None)


def _decoupled(rule: optax.GradientTransformation, c: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adds weight decay beside the rule, times the learning rate: Loshchilov & Hutter, ICLR 2019, as PyTorch scales it."""
    return optax.chain(rule, decay_kernels(c), optax.scale_by_learning_rate(schedule))


def _scale_by_muon(c: OptimConfig) -> optax.GradientTransformation:
    """Muon for the kernels of hidden layers, a convolution's as a matrix [H * W * I, O]; Adam for logits, biases and norms.

    Both take the same learning rate, since updates are scaled to the size of Adam's, as in Keras.

    References:
      Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """
    muon = optax.chain(
        optax.contrib.scale_by_muon(
            beta=_or(c.momentum, 0.95), eps=c.eps, nesterov=c.nesterov, weight_dimension_numbers=_as_matrices
        ),
        optax.stateless_with_tree_map(
            lambda update, _: update * (MUON_RMS * math.sqrt(max(update.size // update.shape[-1], update.shape[-1])))
        ),
    )
    return optax.partition({"muon": muon, "adam": optax.scale_by_adam(c.b1, _or(c.b2, 0.999), c.eps)}, _muon_or_adam)


def _muon_sgd(c: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Muon with kernels kept at one norm for convolutions, SGD for the rest; the schedules differ in their peaks only."""
    ratio = c.muon.learning_rate / c.learning_rate
    muon = optax.chain(
        scale_by_orthogonalized_momentum(c.muon.momentum, c.muon.newton_schulz_steps),
        optax.scale_by_learning_rate(lambda step: ratio * schedule(step)),
        renormalize(),
    )

    def label(p: jax.Array) -> str:
        return "muon" if p.ndim == 4 else "sgd"

    return optax.partition({"muon": muon, "sgd": _sgd(c, schedule)}, lambda params: jax.tree.map(label, params))


def _as_matrices(kernels: Any) -> Any:
    return jax.tree.map(lambda k: optax.contrib.MuonDimensionNumbers(tuple(range(k.ndim - 1)), k.ndim - 1), kernels)


def _muon_or_adam(params: Any) -> Any:
    def label(path: Any, p: jax.Array) -> str:
        return "muon" if p.ndim > 1 and not path_name(path).startswith("logits/") else "adam"

    return jax.tree_util.tree_map_with_path(label, params)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


OPTIMIZERS: dict[Optimizer, Callable[[OptimConfig, optax.Schedule], optax.GradientTransformation]] = {
    Optimizer.ADAM: lambda c, schedule: optax.adam(schedule, c.b1, _or(c.b2, 0.999), c.eps),
    Optimizer.ADAMW: lambda c, schedule: _decoupled(optax.scale_by_adam(c.b1, _or(c.b2, 0.999), c.eps), c, schedule),
    Optimizer.ADAMAX: lambda c, schedule: optax.adamax(schedule, c.b1, _or(c.b2, 0.999), c.eps),
    Optimizer.ADAGRAD: lambda c, schedule: optax.adagrad(schedule, initial_accumulator_value=0.1, eps=c.eps),  # Keras' 0.1
    Optimizer.ADADELTA: lambda c, schedule: optax.adadelta(schedule, _or(c.rho, 0.95), c.eps),
    Optimizer.RMSPROP: _rmsprop,
    Optimizer.LION: lambda c, schedule: _decoupled(optax.scale_by_lion(c.b1, _or(c.b2, 0.99)), c, schedule),
    Optimizer.MUON: lambda c, schedule: _decoupled(_scale_by_muon(c), c, schedule),
    Optimizer.MUON_SGD: _muon_sgd,
    Optimizer.SGD: _sgd,
}
