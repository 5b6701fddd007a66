"""Plateaus and early stopping, epoch by epoch, against Keras' own callbacks in a process of their own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from cifar_flax.config import Config, EarlyStoppingConfig, PlateauConfig
from cifar_flax.config.types import Monitor
from cifar_flax.training.progress import PlateauState, Progress, count_epoch, reduce_on_plateau

PEAK = 0.1
PLATEAUS = [
    PlateauConfig(patience=1, factor=0.5),
    PlateauConfig(patience=2, factor=0.1, cooldown=1, min_learning_rate=2e-4),
    PlateauConfig(patience=3, factor=0.3, cooldown=4, min_delta=0.05),
    PlateauConfig(patience=2, factor=0.5, min_delta=0.0, min_learning_rate=0.03, monitor=Monitor.TOP1),
    PlateauConfig(patience=1, factor=0.9, cooldown=2, min_delta=0.02, monitor=Monitor.TOP1),
    PlateauConfig(patience=1, factor=0.9, min_learning_rate=1.0),
]
STOPPINGS = [
    EarlyStoppingConfig(patience=1),
    EarlyStoppingConfig(patience=4, min_delta=0.05),
    EarlyStoppingConfig(patience=3, min_delta=0.01, monitor=Monitor.TOP1),
]
KERAS = """
import json, sys
from types import SimpleNamespace
import keras, numpy as np

class Optimizer:
    learning_rate = property(lambda self: self.rate, lambda self, rate: setattr(self, "rate", np.float32(rate)))

def follow(case):
    optimizer = Optimizer()
    optimizer.learning_rate = case.pop("peak")
    model, series = SimpleNamespace(optimizer=optimizer, stop_training=False), case.pop("series")
    callback = getattr(keras.callbacks, case.pop("callback"))(monitor="score", **case)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, score in enumerate(series):
        callback.on_epoch_end(epoch, {"score": score})
        yield [float(optimizer.rate), callback.wait, getattr(callback, "cooldown_counter", 0), model.stop_training]

assert "tensorflow" not in sys.modules
print(json.dumps([list(follow(case)) for case in json.load(sys.stdin)]))
"""


def series(monitor, seed):
    """Scores of thirty epochs that get better more and more slowly, with ties, jumps and NaN among them."""
    rng = np.random.default_rng(seed)
    losses = 0.5 + np.exp(-np.arange(30) / 6) + rng.normal(0, 0.08, 30)
    losses[10:13] = losses[9]
    if monitor is Monitor.LOSS:
        losses[20] = np.nan
        return losses.tolist()
    return (1 / (1 + losses)).tolist()


def keras_case(config):
    case = {"peak": PEAK, "patience": config.patience, "min_delta": config.min_delta}
    case |= {"mode": "min" if config.monitor is Monitor.LOSS else "max"}
    if isinstance(config, PlateauConfig):
        return {**case, "callback": "ReduceLROnPlateau", "factor": config.factor, "cooldown": config.cooldown} | {
            "min_lr": config.min_learning_rate
        }
    return {**case, "callback": "EarlyStopping"}


@pytest.fixture(scope="module")
def keras_says():
    """What Keras does of each config on each of three series: (config, seed) -> [rate, wait, cooldown, stopped] an epoch."""
    places = [(i, seed) for i in range(len(PLATEAUS + STOPPINGS)) for seed in range(3)]
    configs = PLATEAUS + STOPPINGS
    cases = [{**keras_case(configs[i]), "series": series(configs[i].monitor, seed)} for i, seed in places]
    child = subprocess.run(
        [sys.executable, "-c", KERAS],
        check=False,
        input=json.dumps(cases),
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert child.returncode == 0, child.stderr
    return dict(zip(places, json.loads(child.stdout), strict=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("i", range(len(PLATEAUS)))
def test_the_learning_rate_falls_when_keras_lets_it_fall(keras_says, i, seed):
    config, actual = PLATEAUS[i], []
    state = PlateauState()
    for score in series(config.monitor, seed):
        state = reduce_on_plateau(state, config, PEAK, {config.monitor: score})
        actual.append([PEAK * state.scale, state.wait, state.cooldown])
    expected = [epoch[:3] for epoch in keras_says[i, seed]]
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert (expected[-1][0] < PEAK) == (config.min_learning_rate < PEAK)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("i", range(len(STOPPINGS)))
def test_training_ends_when_keras_ends_it(keras_says, i, seed):
    config, actual = STOPPINGS[i], []
    state = stopping_state(config)
    for score in series(config.monitor, seed):
        state = count_epoch(state, config, {config.monitor: score})
        actual.append(state.should_stop)
        if actual[-1]:
            break
    stopped = [epoch[3] for epoch in keras_says[len(PLATEAUS) + i, seed]]
    assert actual == stopped[: stopped.index(True) + 1]


@pytest.mark.parametrize("first", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_never_the_best(first):
    plateau, stopping = PlateauConfig(patience=1, factor=0.5), EarlyStoppingConfig(patience=2)
    lowered, counted = PlateauState(), stopping_state(stopping)
    scales, waits = [], []
    for loss in (first, 3.0, float("nan"), 2.0):
        lowered = reduce_on_plateau(lowered, plateau, PEAK, {"loss": loss})
        counted = count_epoch(counted, stopping, {"loss": loss})
        scales.append(lowered.scale)
        waits.append(counted.patience_count)
    assert scales == [0.5, 0.5, 0.25, 0.25]
    assert waits == [1, 0, 1, 0]


def test_callbacks_that_are_off_have_no_state():
    progress = Progress.start(Config())
    assert progress.plateau is progress.early_stopping is None
    assert progress.end_epoch(Config(), {}) == Progress(epochs_done=1)


def test_progress_survives_json():
    config = Config(plateau=PLATEAUS[1], early_stopping=STOPPINGS[1])
    progress = Progress.start(config)
    for loss in (2.0, 3.0, 1.5, 1.6):
        assert Progress.from_json(json.loads(json.dumps(progress.to_json()))) == progress
        progress = progress.end_epoch(config, {"loss": loss})
    assert progress.epochs_done == 4
    assert progress.early_stopping.best_metric == 1.5
    with pytest.raises((KeyError, TypeError)):
        Progress.from_json({"epochs_done": 1})


def stopping_state(config):
    return Progress.start(Config(early_stopping=config)).early_stopping
