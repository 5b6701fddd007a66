"""One process that trains for many epochs and evaluates many times does not grow."""

import contextlib
import ctypes
import gc
import os
import time
from pathlib import Path

import numpy as np
import pytest

from cifar_flax.optim import SGD
from cifar_flax.run import Run
from cifar_flax.training.loop import train

GROWTH = 0.02  # of resident memory, open files and threads, from after the warm-up to the end
POOL = 2  # files or threads by which a pool may still fill up
WARM_UP = 0.3  # of the samples
QUIET, PATIENCE = 0.25, 5.0  # seconds without a file opened or closed, and how long to wait for them


@pytest.fixture(scope="module")
def long_run(scene, thorough):
    """The run directory of a long training in this process, and a sample after each epoch."""
    config, workdir = scene.config(epochs=100 if thorough else 50), scene.fresh("long")
    # One checkpoint an epoch, of few arrays: TensorStore 0.1.86 keeps 3 kB for each array of each (in KvStore.Spec.to_json).
    config.checkpoint.every_steps, config.optim = None, SGD()
    samples = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(scene.fresh("cache")))
        train(config, workdir, after_epoch=lambda epoch, scores, over: samples.append(sample()))
        yield workdir, samples


def test_a_long_training_does_not_grow(long_run):
    assert_no_growth(long_run[1])


def test_many_evaluations_do_not_grow(long_run, thorough):
    samples = []
    for _ in range(50 if thorough else 20):
        Run.open(long_run[0]).evaluate("test")
        samples.append(sample())
    assert_no_growth(samples)


def sample():
    """(resident bytes, open files, threads) of this process, once the checkpoint is written and garbage is freed."""
    wait_for_quiet()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), open_files(), len(os.listdir("/proc/self/task"))


def wait_for_quiet():
    """Waits until no file is opened or closed for a while: a checkpoint of few arrays is written by then."""
    files, since = open_files(), time.monotonic()
    start = since
    while (now := time.monotonic()) < min(since + QUIET, start + PATIENCE):
        time.sleep(QUIET / 25)
        if (current := open_files()) != files:
            files, since = current, now


def open_files():
    return len(os.listdir("/proc/self/fd"))


def assert_no_growth(samples):
    """Compares the minima of the first and of the last third after the warm-up, since some samples see a checkpoint written."""
    after = np.array(samples)[int(WARM_UP * len(samples)) :]
    third = len(after) // 3
    first, last = after[:third].min(0), after[-third:].min(0)
    grown = (last > first * (1 + GROWTH)) & (last > first + POOL)
    assert not grown.any(), f"resident bytes, open files, threads: {first} then {last}"
