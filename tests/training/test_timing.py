from contextlib import closing

import jax
import pytest

from cifar_flax.training.timing import Clock

BEFORE = {"elapsed": 100.0, "compilation": 20.0}


@pytest.fixture
def clock():
    with closing(Clock(BEFORE)) as clock:
        yield clock


def test_it_goes_on_from_the_process_before(clock):
    before = clock.times
    assert 100 <= before["elapsed"] < 110
    assert before["compilation"] == 20
    assert clock.elapsed >= before["elapsed"]


def test_compilation_of_the_steps_is_told_apart(clock):
    @jax.jit
    def train_step(x):
        return x + 1

    @jax.jit
    def something_else(x):
        return x + 2

    something_else(1.0)
    assert clock.times["compilation"] == 20
    train_step(1.0)
    once = clock.times["compilation"]
    assert 20 < once < 20 + clock.elapsed - 100  # seconds, of those that passed
    train_step(1.0)
    assert clock.times["compilation"] == once
    train_step(1)  # another type: another program
    twice = clock.times["compilation"]
    assert twice > once


def test_a_closed_one_listens_no_longer():
    with closing(Clock(BEFORE)) as clock:
        pass

    @jax.jit
    def train_step(x):
        return x + 1

    train_step(1.0)
    assert clock.times["compilation"] == 20


def test_steps_a_second(clock, monkeypatch):
    now = 0.0
    monkeypatch.setattr("cifar_flax.training.timing.time.monotonic", lambda: now)
    for step in range(1, 30):
        now = step / 4
        clock.tick(step)
        assert clock.steps_per_second == pytest.approx(4 if step > 1 else 0)
    clock.pause()
    now += 1000  # of validation
    clock.tick(30)
    assert clock.steps_per_second == pytest.approx(4)
    for step in range(31, 80):
        now += 2
        clock.tick(step)
    assert clock.steps_per_second == pytest.approx(0.5, rel=1e-3)
