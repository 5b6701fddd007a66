"""Learning-rate schedules, functions of the step, by registered name or import path: `config.optim.schedule`."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import jax
import jax.numpy as jnp
import optax

from cifar_flax.config.registry import SCHEDULES
from cifar_flax.config.specs import OptimizerSpec
from cifar_flax.config.types import INT32_MAX
from cifar_flax.config.user_code import place_of, user_code
from cifar_flax.errors import ConfigError

ONE_CYCLE_WARMUP = 0.3  # share of all steps, where the config names no warm-up; default of PyTorch and optax
SOME_SCHEDULES_ONLY = ("decay", "decay_rate", "boundaries", "final_fraction")  # fields of OptimizerSpec

Builder = Callable[[OptimizerSpec, int, int], optax.Schedule]


@dataclass(frozen=True)
class ScheduleFactory:
    """A schedule that configs can name. A plain function of a user's own counts as one with the defaults.

    Attributes:
      build: (spec, total_steps, steps_per_epoch) -> optax.Schedule, which maps the number of updates already made, int32 [], to
        the learning rate, float32 []. Warm-up is added by `create_schedule`: `total_steps` are those after it, and the schedule
        counts from 0 there.
      needs_horizon: whether the rate at a step depends on `total_steps`. If not, a finished run may be trained for longer.
      fields: which of SOME_SCHEDULES_ONLY it reads.
      includes_warmup: whether it makes its own warm-up, so that it covers all steps of the training.
    """

    build: Builder
    needs_horizon: bool = True
    fields: tuple[str, ...] = SOME_SCHEDULES_ONLY
    includes_warmup: bool = False


def create_schedule(spec: OptimizerSpec, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Builds the learning rate as a function of the number of updates already made, int32 [] -> float32 [].

    Warm-up rises linearly from `initial_fraction` of the peak to the peak over `warmup_epochs`; the schedule then counts its
    steps from 0. One-cycle has its own warm-up, over `warmup_epochs` or else 30 % of the steps.

    Args:
      spec: names the schedule and its constants.
      total_steps: of the whole training, warm-up included; cosine, linear and one-cycle end there.
      steps_per_epoch: converts the epochs of `warmup_epochs` and `boundaries` to steps.

    Raises:
      ConfigError: there is no such schedule, it is no function of the step, a user's own raises an error, or there are more
        steps than int32 counts.
    """
    _check_countable("train.epochs", total_steps)
    _check_countable("optim.warmup_epochs", spec.warmup_epochs * steps_per_epoch)
    _check_countable("optim.boundaries", max(spec.boundaries, default=0) * steps_per_epoch)
    factory = _factory(spec.schedule, "config.optim.schedule")
    warmup = 0 if factory.includes_warmup else round(spec.warmup_epochs * steps_per_epoch)
    with user_code("config.optim.schedule", spec.schedule, factory.build):
        schedule = factory.build(spec, max(1, total_steps - warmup), steps_per_epoch)
        _check_scalar(schedule, spec.schedule)
    if not warmup:
        return schedule
    rise = optax.linear_schedule(spec.initial_fraction * spec.learning_rate, spec.learning_rate, warmup)
    return optax.join_schedules([rise, schedule], [warmup])


def needs_horizon(name: str) -> bool:
    """Whether the rate at a step depends on how many epochs are planned; if not, training longer only continues a run."""
    return _factory(name, "config.optim.schedule").needs_horizon


def check_schedule(spec: OptimizerSpec) -> None:
    """Refuses settings that have no effect with the schedule, and boundaries that do not rise.

    Raises:
      ConfigError: the message begins with the field as seen from the spec.
    """
    factory = _factory(spec.schedule, "schedule")
    defaults = {field.name: field.default for field in fields(OptimizerSpec)}
    for name in SOME_SCHEDULES_ONLY:
        value, unused = getattr(spec, name), defaults[name]
        if value != unused and name not in factory.fields:
            readers = " or ".join(other for other in SCHEDULES if name in _factory(other, "schedule").fields)
            raise ConfigError(
                f"{name}: {value} has no effect with schedule {spec.schedule}; set it to {unused}, "
                f"or --config.optim.schedule={readers}"
            )
    if spec.initial_fraction and (not spec.warmup_epochs or factory.includes_warmup):
        raise ConfigError(
            f"initial_fraction: {spec.initial_fraction} has no effect without config.optim.warmup_epochs, "
            "nor with schedule one_cycle; set it to 0.0"
        )
    rising = [spec.warmup_epochs, *spec.boundaries]
    if spec.schedule == "piecewise" and sorted(set(rising)) != rising:
        raise ConfigError(f"boundaries: expected rising epochs after warm-up, not {spec.boundaries}")


def _factory(name: str, field: str) -> ScheduleFactory:
    part = SCHEDULES.resolve(name, field)
    return part if isinstance(part, ScheduleFactory) else ScheduleFactory(part)


def _check_countable(field: str, steps: float) -> None:
    if steps > INT32_MAX:
        raise ConfigError(f"config.{field}: comes to {steps:.3g} steps, more than the {INT32_MAX:,} that are counted")


def _check_scalar(schedule: optax.Schedule, name: str) -> None:
    expected = "expected a function of the step, a traced int32 scalar, that returns the learning rate, a float32 scalar"
    if not callable(schedule):
        raise ConfigError(f"config.optim.schedule: {name} built {type(schedule).__name__}; {expected}")
    try:
        rate = jax.eval_shape(lambda step: jnp.asarray(schedule(step)), jax.ShapeDtypeStruct((), jnp.int32))
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as e:
        place = f" ({place})" if (place := place_of(e)) else ""
        raise ConfigError(
            f"config.optim.schedule: {name} takes the step for a plain number{place}; use jnp functions, and jnp.where "
            "for a branch"
        ) from None
    if rate.shape or rate.dtype != jnp.float32:
        raise ConfigError(f"config.optim.schedule: {name} returns {rate.dtype}{list(rate.shape)}; {expected}")


def _constant(spec: OptimizerSpec, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    return optax.constant_schedule(spec.learning_rate)


def _inverse_time(spec: OptimizerSpec, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Keras' `decay`: lr / (1 + decay * step) after `step` updates."""
    return lambda step: spec.learning_rate / (1 + spec.decay * step)


def _exponential(spec: OptimizerSpec, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    return optax.exponential_decay(spec.learning_rate, steps_per_epoch, spec.decay_rate)


def _piecewise(spec: OptimizerSpec, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    steps = [round((epoch - spec.warmup_epochs) * steps_per_epoch) for epoch in spec.boundaries]
    factors = {step: spec.decay_rate ** steps.count(step) for step in steps}  # several boundaries may fall on one step
    return optax.piecewise_constant_schedule(spec.learning_rate, factors)


def _cosine(spec: OptimizerSpec, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(spec.learning_rate, total_steps, spec.final_fraction)


def _linear(spec: OptimizerSpec, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    return optax.linear_schedule(spec.learning_rate, spec.final_fraction * spec.learning_rate, total_steps)


def _one_cycle(spec: OptimizerSpec, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """A cosine from peak / 25 to the peak, then a cosine down to peak / 250,000: the factors of PyTorch and of optax."""
    warmup = round(spec.warmup_epochs * steps_per_epoch) or round(ONE_CYCLE_WARMUP * total_steps)
    steps = max(total_steps, warmup + 1)  # a training shorter than its warm-up only warms up
    # optax rounds the product down; half a step more makes it `warmup` whatever the rounding.
    return optax.cosine_onecycle_schedule(steps, spec.learning_rate, pct_start=(warmup + 0.5) / steps)


SCHEDULES.register("constant")(ScheduleFactory(_constant, needs_horizon=False, fields=()))
SCHEDULES.register("inverse_time")(ScheduleFactory(_inverse_time, needs_horizon=False, fields=("decay",)))
SCHEDULES.register("exponential")(ScheduleFactory(_exponential, needs_horizon=False, fields=("decay_rate",)))
SCHEDULES.register("piecewise")(ScheduleFactory(_piecewise, needs_horizon=False, fields=("decay_rate", "boundaries")))
SCHEDULES.register("cosine")(ScheduleFactory(_cosine, fields=("final_fraction",)))
SCHEDULES.register("linear")(ScheduleFactory(_linear, fields=("final_fraction",)))
SCHEDULES.register("one_cycle")(ScheduleFactory(_one_cycle, fields=(), includes_warmup=True))
