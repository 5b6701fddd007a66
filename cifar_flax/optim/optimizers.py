"""Optimizers: a spec for each update rule, and the transform from gradients to updates that a spec describes."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from cifar_flax.config.registry import OPTIMIZERS
from cifar_flax.config.specs import OptimizerSpec
from cifar_flax.config.types import NonNegative, Positive, UnitIntervalOpen
from cifar_flax.config.user_code import is_ours, user_code
from cifar_flax.errors import ConfigError
from cifar_flax.optim.freezing import leave_out_frozen
from cifar_flax.optim.groups import decay_kernels, scale_groups
from cifar_flax.optim.muon import Muon, MuonSGD
from cifar_flax.optim.schedules import check_schedule
from cifar_flax.optim.sgd import SGD


def create_optimizer(spec: OptimizerSpec, schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Builds the transform from gradients to updates.

    It clips by global norm, applies the optimizer at the schedule's rate, then the factors of the groups. Frozen parameters
    take part in none of it and have no state. The schedule counts the transform's own updates, so that the state carries all
    that the next step needs; the length of the schedule does not change the shapes in the state. Its update takes the extra
    arguments `compute_dtype`, for rules with matrix products: the dtype of those of the network; and `value`, the loss.

    Args:
      spec: the rule, with its clipping, groups and frozen parameters.
      schedule: maps the number of updates made, int32 [], to the learning rate, float32 [].

    Returns:
      The transform; gradients, updates and parameters are float32 trees of one structure.

    Raises:
      ConfigError: `transform` returns something else; or it, or the init or the update of its result, raises an error.
    """
    optimizer = _rule(spec, schedule)
    if spec.clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(spec.clip_norm), optimizer)
    if spec.groups:
        optimizer = optax.chain(optimizer, scale_groups(spec))
    return optax.with_extra_args_support(leave_out_frozen(optimizer, spec.freeze) if spec.freeze else optimizer)


def _rule(spec: OptimizerSpec, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The transform of a spec, errors of which, as of a user's own code, name the field and the line."""
    kind, field = type(spec), "config.optim"
    with user_code(field, f"transform() of {spec.name}", kind):
        rule = spec.transform(schedule)
    if is_ours(kind):
        return rule
    if not (hasattr(rule, "init") and hasattr(rule, "update")):
        raise ConfigError(
            f"{field}: transform() of {spec.name} returned a {type(rule).__name__}; expected an optax.GradientTransformation"
        )
    inner = optax.with_extra_args_support(rule)

    def init(params: Any) -> Any:
        with user_code(field, f"the init of {spec.name}", kind):
            state = inner.init(params)
        for leaf in jax.tree.leaves(state):
            if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float):
                raise ConfigError(f"{field}: {spec.name} has {leaf!r} in its state; expected arrays and numbers")
        return state

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        with user_code(field, f"the update of {spec.name}", kind):
            new_updates, new_state = inner.update(updates, state, params, **extra_args)
        return new_updates, new_state

    return optax.GradientTransformationExtraArgs(init, update)


def check_common(spec: OptimizerSpec) -> None:
    """Refuses common fields that have no effect; `OptimizerSpec.check` calls it.

    Raises:
      ConfigError: the message begins with the field as seen from the spec.
    """
    check_schedule(spec)
    decaying = [name for name in OPTIMIZERS if hasattr(OPTIMIZERS.resolve(name, "name"), "weight_decay")]
    for i, group in enumerate(spec.groups):
        if group.weight_decay and not hasattr(spec, "weight_decay"):
            hint = "use --config.optim.name=adamw" if isinstance(spec, Adam) else f"expected one of {', '.join(decaying)}"
            raise ConfigError(f"groups[{i}].weight_decay: {spec.name} has no weight decay; {hint}")


@OPTIMIZERS.register("adam")
@dataclass(slots=True)
class Adam(OptimizerSpec):
    """Adam.

    References:
      Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.
    """

    b1: UnitIntervalOpen = 0.9
    b2: UnitIntervalOpen = 0.999
    eps: Positive = 1e-7  # Keras' default

    def transform(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Adam at the rates of `schedule`."""
        return optax.adam(schedule, self.b1, self.b2, self.eps)


@OPTIMIZERS.register("adamw")
@dataclass(slots=True)
class AdamW(OptimizerSpec):
    """Adam with decoupled weight decay, which the learning rate scales, as in PyTorch.

    References:
      Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2.
    """

    b1: UnitIntervalOpen = 0.9
    b2: UnitIntervalOpen = 0.999
    eps: Positive = 1e-7  # Keras' default
    weight_decay: NonNegative = 0.0  # kernels only

    def transform(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """AdamW at the rates of `schedule`."""
        adam = optax.scale_by_adam(self.b1, self.b2, self.eps)
        return optax.chain(adam, decay_kernels(self, self.weight_decay), optax.scale_by_learning_rate(schedule))


@OPTIMIZERS.register("adamax")
@dataclass(slots=True)
class Adamax(OptimizerSpec):
    """Adam with the maximum norm.

    References:
      Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 2.
    """

    b1: UnitIntervalOpen = 0.9
    b2: UnitIntervalOpen = 0.999
    eps: Positive = 1e-7  # added to the norm, as in Keras

    def transform(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Adamax at the rates of `schedule`."""
        return optax.adamax(schedule, self.b1, self.b2, self.eps)


@OPTIMIZERS.register("adagrad")
@dataclass(slots=True)
class Adagrad(OptimizerSpec):
    """Adagrad, whose accumulator starts at 0.1, as in Keras.

    References:
      Duchi, Hazan & Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", JMLR 2011.
    """

    eps: Positive = 1e-7  # added to the accumulator

    def transform(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Adagrad at the rates of `schedule`."""
        return optax.adagrad(schedule, initial_accumulator_value=0.1, eps=self.eps)


@OPTIMIZERS.register("adadelta")
@dataclass(slots=True)
class Adadelta(OptimizerSpec):
    """Adadelta, times a learning rate, as in Keras.

    References:
      Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1.
    """

    rho: UnitIntervalOpen = 0.95  # decay of the averages of squares
    eps: Positive = 1e-7

    def transform(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Adadelta at the rates of `schedule`."""
        return optax.adadelta(schedule, self.rho, self.eps)


@OPTIMIZERS.register("rmsprop")
@dataclass(slots=True)
class RMSprop(OptimizerSpec):
    """RMSprop of Keras before TensorFlow 2.11: lr g / (sqrt(v) + eps), with momentum over those updates.

    Later versions divide by sqrt(v + eps), which shrinks small gradients far more. The blog posts on CIFAR used earlier ones.

    References:
      Hinton, "Neural Networks for Machine Learning", lecture 6e, 2012.
    """

    rho: UnitIntervalOpen = 0.9  # decay of the average of squares
    eps: Positive = 1e-7
    momentum: UnitIntervalOpen = 0.0

    def transform(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """RMSprop at the rates of `schedule`."""
        return optax.rmsprop(schedule, self.rho, self.eps, eps_in_sqrt=False, momentum=self.momentum or None)


@OPTIMIZERS.register("lion")
@dataclass(slots=True)
class Lion(OptimizerSpec):
    """Lion: the sign of an interpolated momentum, with decoupled weight decay.

    References:
      Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, algorithm 2.
    """

    b1: UnitIntervalOpen = 0.9
    b2: UnitIntervalOpen = 0.99
    weight_decay: NonNegative = 0.0  # kernels only

    def transform(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Lion at the rates of `schedule`."""
        lion = optax.scale_by_lion(self.b1, self.b2)
        return optax.chain(lion, decay_kernels(self, self.weight_decay), optax.scale_by_learning_rate(schedule))


OPTIMIZERS.register("sgd")(SGD)
OPTIMIZERS.register("muon")(Muon)
OPTIMIZERS.register("muon_sgd")(MuonSGD)
