import pytest

from cifar_flax.training.timing import StepTimer

BEFORE = {"elapsed": 100.0, "compilation": 20.0}


def test_times_continue_those_of_an_earlier_process():
    compiled = 0.0
    timer = StepTimer(BEFORE, lambda: compiled)
    first = timer.times
    assert first["elapsed"] >= 100
    assert first["compilation"] == 20
    compiled = 3.0
    assert timer.times["compilation"] == 23
    assert timer.elapsed >= first["elapsed"]


def test_speed_is_a_mean_that_forgets_without_compilation_and_validation(monkeypatch):
    now = compiled = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    timer = StepTimer({}, lambda: compiled)
    timer.start(0)
    assert timer.steps_per_second == 0
    now, compiled = now + 60, compiled + 60
    for step in range(1, 30):
        now += 1 / 4
        timer.tick(step)
        assert timer.steps_per_second == pytest.approx(4)
    now += 1000  # of validation
    timer.start(29)
    for step in range(30, 80):
        now += 2
        timer.tick(step)
    assert timer.steps_per_second == pytest.approx(0.5, rel=1e-3)
