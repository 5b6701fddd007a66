"""Learning-rate schedules: functions of the step, built from config."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import optax

from cifar_flax.config import OptimConfig, Schedule
from cifar_flax.config.types import INT32_MAX
from cifar_flax.errors import ConfigError

ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1e-4 / 25  # of the peak; the div factors of PyTorch's OneCycleLR and of optax
ONE_CYCLE_WARMUP = 0.3  # of all steps, where the config names no warm-up; theirs too

# Given the config, the steps after warm-up and the steps of an epoch, a schedule that starts at step 0 after warm-up.
Builder = Callable[[OptimConfig, int, int], optax.Schedule]


def create_schedule(config: OptimConfig, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Builds the learning rate as a function of the number of updates already made, int32 [] -> float32 [].

    Warm-up rises linearly from `initial_fraction` of the peak to the peak over `warmup_epochs`; the schedule then counts its
    steps from 0. One-cycle has its own warm-up: a cosine from peak / 25, over `warmup_epochs` or else 30 % of the steps, and
    a cosine down to peak / 250,000.

    Args:
      config: names the schedule and its constants.
      total_steps: of the whole training, warm-up included; cosine, linear and one-cycle end there.
      steps_per_epoch: converts the epochs of `warmup_epochs` and `boundaries` to steps.

    Raises:
      UserError: there are more steps than int32 counts.
    """
    _check_countable("train.epochs", total_steps)
    _check_countable("optim.warmup_epochs", config.warmup_epochs * steps_per_epoch)
    _check_countable("optim.boundaries", max(config.boundaries, default=0) * steps_per_epoch)
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if config.schedule is Schedule.ONE_CYCLE:
        return _one_cycle(config, warmup or round(ONE_CYCLE_WARMUP * total_steps), total_steps)
    after = SCHEDULES[config.schedule](config, max(1, total_steps - warmup), steps_per_epoch)
    if not warmup:
        return after
    rise = optax.linear_schedule(config.initial_fraction * config.learning_rate, config.learning_rate, warmup)
    return optax.join_schedules([rise, after], [warmup])


def needs_horizon(schedule: Schedule) -> bool:
    """Whether the rate at a step depends on how many epochs are planned; if not, training longer only continues a run."""
    return schedule in (Schedule.COSINE, Schedule.LINEAR, Schedule.ONE_CYCLE)


def _check_countable(field: str, steps: float) -> None:
    if steps > INT32_MAX:
        raise ConfigError(f"config.{field}: comes to {steps:.3g} steps, more than the {INT32_MAX:,} that are counted")


def _one_cycle(config: OptimConfig, warmup: int, total_steps: int) -> optax.Schedule:
    peak = config.learning_rate
    rise = _half_cosine(peak * ONE_CYCLE_START, peak, warmup)
    fall = _half_cosine(peak, peak * ONE_CYCLE_END, max(1, total_steps - warmup))
    return optax.join_schedules([rise, fall], [warmup])


def _half_cosine(start: float, end: float, steps: int) -> optax.Schedule:
    return lambda step: end + (start - end) * 0.5 * (1 + jnp.cos(math.pi * jnp.clip(step / steps, 0, 1)))


def _inverse_time(config: OptimConfig, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Keras' `decay`: lr / (1 + decay * step) after `step` updates."""
    return lambda step: config.learning_rate / (1 + config.decay * step)


def _piecewise(config: OptimConfig, steps: int, steps_per_epoch: int) -> optax.Schedule:
    warmup = config.warmup_epochs
    steps_of = [round((epoch - warmup) * steps_per_epoch) for epoch in config.boundaries]
    boundaries = {step: config.decay_rate ** steps_of.count(step) for step in steps_of}  # some may fall into one step
    return optax.piecewise_constant_schedule(config.learning_rate, boundaries)


SCHEDULES: dict[Schedule, Builder] = {
    Schedule.CONSTANT: lambda c, steps, per_epoch: optax.constant_schedule(c.learning_rate),
    Schedule.INVERSE_TIME: _inverse_time,
    Schedule.EXPONENTIAL: lambda c, steps, per_epoch: optax.exponential_decay(c.learning_rate, per_epoch, c.decay_rate),
    Schedule.PIECEWISE: _piecewise,
    Schedule.COSINE: lambda c, steps, per_epoch: optax.cosine_decay_schedule(c.learning_rate, steps, c.final_fraction),
    Schedule.LINEAR: lambda c, steps, per_epoch: optax.linear_schedule(
        c.learning_rate, c.final_fraction * c.learning_rate, steps
    ),
}
