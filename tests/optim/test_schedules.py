import math

import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.config.registry import SCHEDULES
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.optim import Adam
from cifar_flax.optim.schedules import ScheduleFactory, create_schedule, needs_horizon

EPOCHS, PER_EPOCH = 10, 20
TOTAL = EPOCHS * PER_EPOCH


def rates(**options):
    schedule = create_schedule(Adam(learning_rate=0.5, **options), TOTAL, PER_EPOCH)
    return np.array([float(schedule(step)) for step in range(TOTAL + 1)])


steps = np.arange(TOTAL + 1)
EXPECTED = {
    "constant": np.full(TOTAL + 1, 0.5),
    "inverse_time": 0.5 / (1 + 0.01 * steps),
    "exponential": 0.5 * 0.9 ** (steps / PER_EPOCH),
    "piecewise": 0.5 * 0.9 ** ((steps >= 3 * PER_EPOCH).astype(int) + (steps >= 7.5 * PER_EPOCH)),
    "linear": 0.5 * (1 - 0.9 * steps / TOTAL),
    "cosine": 0.5 * (0.1 + 0.9 * (1 + np.cos(math.pi * steps / TOTAL)) / 2),
}
OPTIONS = {"decay": 0.01, "decay_rate": 0.9, "boundaries": (3.0, 7.5), "final_fraction": 0.1}


@pytest.mark.parametrize("schedule", EXPECTED)
def test_schedules_follow_their_formulas(schedule):
    np.testing.assert_allclose(rates(schedule=schedule, **OPTIONS), EXPECTED[schedule], rtol=1e-5)


@pytest.mark.parametrize(("options", "warmup"), [({}, 0.3 * TOTAL), ({"warmup_epochs": 2.35}, 47)])
def test_one_cycle_is_pytorchs(options, warmup):
    """torch.optim.lr_scheduler.OneCycleLR with its defaults; its last phase ends at the last update, ours one step later."""

    def anneal(start, end, share):
        return end + (start - end) / 2 * (1 + np.cos(np.pi * share))

    expected = np.where(
        steps < warmup,
        anneal(0.5 / 25, 0.5, steps / warmup),
        anneal(0.5, 0.5 / 25 / 1e4, (steps - warmup) / (TOTAL - warmup)),
    )
    curve = rates(schedule="one_cycle", **options)
    np.testing.assert_allclose(curve, expected, rtol=2e-6, atol=3e-8)
    assert curve.argmax() == warmup


def test_a_warm_up_can_begin_above_zero():
    curve = rates(schedule="linear", warmup_epochs=2.0, initial_fraction=0.2, final_fraction=0.07)
    np.testing.assert_allclose(curve[[0, PER_EPOCH, 2 * PER_EPOCH, -1]], [0.1, 0.3, 0.5, 0.035], rtol=1e-5)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_every_schedule_takes_a_warm_up(schedule):
    curve = rates(schedule=schedule, warmup_epochs=2.0, **OPTIONS)
    assert curve[0] == (pytest.approx(0.5 / 25) if schedule == "one_cycle" else 0)
    assert (np.diff(curve[: 2 * PER_EPOCH + 1]) > 0).all()
    assert curve[2 * PER_EPOCH] == pytest.approx(0.5)
    assert (np.diff(curve[2 * PER_EPOCH :]) <= 0).all()
    if schedule == "piecewise":  # its boundaries are epochs of training, warm-up included
        assert np.flatnonzero(np.diff(curve[2 * PER_EPOCH :]))[0] == PER_EPOCH - 1


def test_only_the_schedules_that_end_somewhere_need_a_horizon():
    for schedule in SCHEDULES:
        long, short = (
            create_schedule(Adam(schedule=schedule, **OPTIONS), epochs * PER_EPOCH, PER_EPOCH) for epochs in (20, 10)
        )
        same = all(float(long(step)) == float(short(step)) for step in range(0, TOTAL, 7))
        assert needs_horizon(schedule) != same


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_a_training_shorter_than_its_warm_up_only_warms_up(schedule):
    curve = rates(schedule=schedule, warmup_epochs=EPOCHS * 2.0)
    assert (np.diff(curve) > 0).all()
    assert curve[-1] < 0.5


def triangle(spec, total_steps, steps_per_epoch):
    """A user's own schedule."""
    return lambda step: spec.learning_rate * (1 - abs(2 * step / total_steps - 1))


def frozen_rate(spec, total_steps, steps_per_epoch):
    return 0.1


def rate_by_layer(spec, total_steps, steps_per_epoch):
    return lambda step: jnp.full(3, 0.1)


def branching(spec, total_steps, steps_per_epoch):
    return lambda step: 0.1 if step < 10 else 0.01


def of_math(spec, total_steps, steps_per_epoch):
    return lambda step: 0.1 * math.cos(step)


def of_numpy(spec, total_steps, steps_per_epoch):
    return lambda step: 0.1 * np.cos(step)


def unbuilt(spec, total_steps, steps_per_epoch):
    return {}["peak"]


def misspelt(spec, total_steps, steps_per_epoch):
    return lambda step: 0.1 * jnp.cosine(step)


every_hundred = ScheduleFactory(lambda spec, total, per_epoch: lambda step: 0.1 ** (step // 100), needs_horizon=False)


def test_a_users_own_schedule_begins_after_the_warm_up_and_ends_with_the_training():
    curve = rates(schedule=f"{__name__}:triangle", warmup_epochs=2.0)
    np.testing.assert_allclose(curve[[0, 20, 40, 80, 120, -1]], [0, 0.25, 0, 0.25, 0.5, 0], atol=1e-6)


def test_a_users_own_schedule_needs_a_horizon_unless_it_says_otherwise():
    assert needs_horizon(f"{__name__}:triangle")
    assert not needs_horizon(f"{__name__}:every_hundred")
    assert rates(schedule=f"{__name__}:every_hundred")[150] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("frozen_rate", "frozen_rate built float; expected a function of the step"),
        ("rate_by_layer", r"rate_by_layer returns float32\[3\]; expected a function of the step"),
        (
            "branching",
            r"branching takes the step for a plain number \(test_schedules\.py, line \d+\); use jnp functions, and jnp",
        ),
        ("of_math", r"of_math takes the step for a plain number \(test_schedules\.py, line \d+\); use jnp functions, and jnp"),
        (
            "of_numpy",
            r"of_numpy takes the step for a plain number \(test_schedules\.py, line \d+\); use jnp functions, and jnp",
        ),
        ("unbuilt", r"unbuilt raised KeyError: 'peak' \(test_schedules\.py, line \d+\)$"),
        ("misspelt", r"misspelt raised AttributeError: .* \(test_schedules\.py, line \d+\)$"),
        ("missing", "has no missing"),
    ],
)
def test_what_is_no_function_of_the_step_is_refused(name, message):
    with pytest.raises(ConfigError, match=rf"^config\.optim\.schedule: .*{message}"):
        rates(schedule=f"{__name__}:{name}")


def test_an_unknown_schedule_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"^config\.optim\.schedule: there is no schedule 'cosin'; did you mean cosine\?"):
        rates(schedule="cosin")


@pytest.mark.parametrize(
    ("config", "total_steps", "field"),
    [
        (Adam(), 2**31, "config.train.epochs"),
        (Adam(warmup_epochs=1e9), 90, "config.optim.warmup_epochs"),
        (Adam(schedule="piecewise", boundaries=(1.0, 1e9)), 90, "config.optim.boundaries"),
    ],
)
def test_more_steps_than_int32_counts_are_refused(config, total_steps, field):
    with pytest.raises(UserError, match=rf"{field}: comes to .* steps, more than the 2,147,483,647"):
        create_schedule(config, total_steps, 9)


def test_two_falls_of_the_rate_within_one_step_are_both_made():
    config = Adam(learning_rate=1.0, schedule="piecewise", boundaries=(1.0, 1.01, 2.0), decay_rate=0.5)
    schedule = create_schedule(config, 90, 9)
    np.testing.assert_allclose([schedule(step) for step in (0, 8, 11, 20)], [1, 1, 0.25, 0.125])
