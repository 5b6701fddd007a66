import functools
import os
import signal
import time

import jax
import numpy as np
import pytest

from cifar_flax import Run
from cifar_flax.config.serialize import read_config
from cifar_flax.training.checkpoints.manager import Checkpoints
from cifar_flax.training.trainer import Trainer
from cifar_flax.training.writers.tensorboard import read_events
from tests.conftest import ROOT, TINY_CONFIG
from tests.helpers import forked
from tests.helpers.runs import records_without_times, wait_for_step

EPOCHS = 3  # of 5: no epoch improves enough on the first, so that the rate falls after the second and training ends
TIMEOUT = 600  # seconds, on a machine that is busy
STEPS = EPOCHS * 9  # 290 images in batches of 32
WAYS = {
    "step by step": [],
    "several steps a dispatch": ["--config.train.steps_per_dispatch=8", "--config.checkpoint.every_steps=none"],
    "streamed": ["--config.data.source=streamed"],
}
OVERRIDES = [
    "--config.train.epochs=5",
    *("--config.plateau.patience=1", "--config.plateau.factor=0.5", "--config.plateau.min_delta=1000"),
    *("--config.early_stopping.patience=2", "--config.early_stopping.min_delta=1000"),
]


def curves(run):
    """What TensorBoard shows but for speed, and the tags of its pictures."""
    return sorted(
        (event.step, value.tag, value.simple_value)
        for path in (run / "tensorboard").glob("events*")
        for event in read_events(path)
        for value in event.summary.value
        if value.tag != "step/images_per_second"
    )


def start(workdir, cache, *overrides):
    command = [ROOT / "launch" / "train.py", f"--config={TINY_CONFIG}", f"--workdir={workdir}", *OVERRIDES, *overrides]
    return forked.Popen(command, env={**os.environ, "CIFAR_FLAX_CACHE": str(cache)})


def stop_at(workdir, cache, step, number, *overrides):
    """Trains until the record of `step` is written, sends the signal, and returns (exit status, stderr)."""
    process = start(workdir, cache, *overrides)
    wait_for_step(workdir, step, process)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=TIMEOUT)
    return process.returncode, stderr


def same(a, b):
    paths_a, paths_b = jax.tree_util.tree_leaves_with_path(a), jax.tree_util.tree_leaves_with_path(b)
    assert [path for path, _ in paths_a] == [path for path, _ in paths_b]
    for (path, x), (_, y) in zip(paths_a, paths_b, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y), err_msg=str(path))


@pytest.fixture(scope="module")
def undisturbed(tiny_cache, tmp_path_factory):
    """From extra overrides to a run that was never stopped, trained once."""

    @functools.cache
    def train(*overrides):
        workdir = tmp_path_factory.mktemp("undisturbed") / "run"
        assert start(workdir, tiny_cache, *overrides).wait(timeout=TIMEOUT) == 0
        return workdir

    return train


def states(workdir):
    """The latest and the best state, with all that the optimizer keeps."""
    config = read_config(workdir / "config.json")
    checkpoints = Checkpoints(workdir, config.checkpoint, read_only=True)
    like = Trainer.from_config(config).abstract_state
    return {which: checkpoints.restore(checkpoints.find(which), like) for which in ("latest", "best")}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_killed_and_resumed_run_ends_bitwise_equal(way, undisturbed, tiny_cache, tiny_data, tmp_path):
    whole, workdir = undisturbed(*WAYS[way]), tmp_path / "run"
    for step in (4, 13, 19) if way == "step by step" else (13,):
        status, _ = stop_at(workdir, tiny_cache, step, signal.SIGKILL, *WAYS[way])
        assert status == -signal.SIGKILL
    assert start(workdir, tiny_cache, *WAYS[way]).wait(timeout=TIMEOUT) == 0
    same(states(whole), states(workdir))
    assert records_without_times(workdir) == records_without_times(whole)
    assert curves(workdir) == curves(whole)
    rates = {record["epoch"]: record["learning_rate"] for record in records_without_times(workdir) if record["kind"] == "step"}
    assert rates == {1: rates[1], 2: rates[1], 3: rates[1] / 2}
    assert Run.open(workdir).step("latest") == STEPS


@pytest.mark.slow
def test_streamed_batches_train_to_the_bits_of_resident_ones(undisturbed, tiny_data):
    same(states(undisturbed(*WAYS["streamed"])), states(undisturbed()))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_says_how_to_go_on_and_loses_nothing(undisturbed, tiny_cache, tmp_path, number):
    whole, workdir = undisturbed(), tmp_path / "run"
    status, stderr = stop_at(workdir, tiny_cache, 11, number)
    assert status == 75
    assert len(stderr.strip().splitlines()) == 1
    assert "run the same command to go on" in stderr
    saved = Run.open(workdir).step("latest")
    assert 11 <= saved < STEPS
    assert start(workdir, tiny_cache).wait(timeout=TIMEOUT) == 0
    same(Run.open(whole).params("latest"), Run.open(workdir).params("latest"))
    assert records_without_times(workdir) == records_without_times(whole)
    run = Run.open(workdir).metrics()
    assert run[run.kind == "step"].step.tolist() == list(range(1, STEPS + 1))


def test_two_processes_do_not_share_a_workdir(tiny_cache, tmp_path):
    workdir = tmp_path / "run"
    first = start(workdir, tiny_cache)
    while first.poll() is None and not (workdir / "config.json").exists():  # which is written after the lock is taken
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # or it might have ended before the second has started
    try:
        second = start(workdir, tiny_cache)
        _, stderr = second.communicate(timeout=TIMEOUT)
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert "another process is training" in stderr
    assert first.wait(timeout=TIMEOUT) == 0
