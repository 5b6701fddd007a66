import math

import numpy as np
import pytest

from cifar_flax.config import OptimConfig, Schedule
from cifar_flax.optim.schedules import create_schedule, needs_horizon

EPOCHS, PER_EPOCH = 10, 20
TOTAL = EPOCHS * PER_EPOCH


def rates(**options):
    schedule = create_schedule(OptimConfig(learning_rate=0.5, **options), TOTAL, PER_EPOCH)
    return np.array([float(schedule(step)) for step in range(TOTAL + 1)])


steps = np.arange(TOTAL + 1)
EXPECTED = {
    Schedule.CONSTANT: np.full(TOTAL + 1, 0.5),
    Schedule.INVERSE_TIME: 0.5 / (1 + 0.01 * steps),
    Schedule.EXPONENTIAL: 0.5 * 0.9 ** (steps / PER_EPOCH),
    Schedule.PIECEWISE: 0.5 * 0.9 ** ((steps >= 3 * PER_EPOCH).astype(int) + (steps >= 7.5 * PER_EPOCH)),
    Schedule.LINEAR: 0.5 * (1 - 0.9 * steps / TOTAL),
    Schedule.COSINE: 0.5 * (0.1 + 0.9 * (1 + np.cos(math.pi * steps / TOTAL)) / 2),
}
OPTIONS = {"decay": 0.01, "decay_rate": 0.9, "boundaries": (3.0, 7.5), "final_fraction": 0.1}


@pytest.mark.parametrize("schedule", EXPECTED)
def test_schedules_follow_their_formulas(schedule):
    np.testing.assert_allclose(rates(schedule=schedule, **OPTIONS), EXPECTED[schedule], rtol=1e-5)


def test_one_cycle_rises_to_the_peak_and_falls_far_below_its_start():
    curve = rates(schedule=Schedule.ONE_CYCLE)
    assert curve.argmax() == 0.3 * TOTAL
    np.testing.assert_allclose((curve[0], curve.max(), curve[-1]), (0.5 / 25, 0.5, 0.5 / 25e4), rtol=1e-4)
    assert (np.diff(curve[:61]) > 0).all()
    assert (np.diff(curve[60:]) < 0).all()
    np.testing.assert_allclose(curve[30], (curve[0] + 0.5) / 2, rtol=1e-4)


def test_a_warm_up_can_begin_above_zero():
    curve = rates(schedule=Schedule.LINEAR, warmup_epochs=2.0, initial_fraction=0.2, final_fraction=0.07)
    np.testing.assert_allclose(curve[[0, PER_EPOCH, 2 * PER_EPOCH, -1]], [0.1, 0.3, 0.5, 0.035], rtol=1e-5)


@pytest.mark.parametrize("schedule", list(Schedule))
def test_every_schedule_takes_a_warm_up(schedule):
    curve = rates(schedule=schedule, warmup_epochs=2.0, **OPTIONS)
    assert curve[0] == (pytest.approx(0.5 / 25) if schedule is Schedule.ONE_CYCLE else 0)
    assert (np.diff(curve[: 2 * PER_EPOCH + 1]) > 0).all()
    assert curve[2 * PER_EPOCH] == pytest.approx(0.5)
    assert (np.diff(curve[2 * PER_EPOCH :]) <= 0).all()
    if schedule is Schedule.PIECEWISE:  # its boundaries are epochs of training, warm-up included
        assert np.flatnonzero(np.diff(curve[2 * PER_EPOCH :]))[0] == PER_EPOCH - 1


def test_only_the_schedules_that_end_somewhere_need_a_horizon():
    for schedule in Schedule:
        long, short = (
            create_schedule(OptimConfig(schedule=schedule, **OPTIONS), epochs * PER_EPOCH, PER_EPOCH) for epochs in (20, 10)
        )
        same = all(float(long(step)) == float(short(step)) for step in range(0, TOTAL, 7))
        assert needs_horizon(schedule) != same


@pytest.mark.parametrize("schedule", [Schedule.COSINE, Schedule.ONE_CYCLE])
def test_a_training_shorter_than_its_warm_up_only_warms_up(schedule):
    curve = rates(schedule=schedule, warmup_epochs=EPOCHS * 2.0)
    assert (np.diff(curve) > 0).all()
    assert curve[-1] < 0.5
