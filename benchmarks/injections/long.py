"""One process that trains for a hundred epochs and evaluates fifty times: whether it grows."""

import contextlib
import ctypes
import gc
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.injections.scene import CONFIG, Outcome, Result, Scene, cache_at
from cifar_flax.config.serialize import validated
from cifar_flax.config.types import Optimizer
from cifar_flax.run import Run
from cifar_flax.runtime.app import load_config
from cifar_flax.training.loop import train

GROWTH = 0.02  # of resident memory, open files and threads, from after the warm-up to the end
FEW = 2  # files or threads more are no growth: pools are filled as they are needed
WARM_UP = 0.3  # of the samples
QUIET, PATIENCE = 0.25, 5.0  # seconds without a file opened or closed, and how long to wait for them

Sample = dict[str, int]


def long_runs(scene: Scene, epochs: int, evaluations: int) -> Iterator[Result]:
    """Trains and evaluates in this process, and measures after each epoch and each evaluation."""
    workdir, config = scene.fresh("long"), load_config(str(CONFIG))
    config.data.name, config.data.image_size, config.train.epochs = f"folder:{scene.pictures}", 8, epochs
    # One checkpoint an epoch, of few arrays: TensorStore 0.1.86 keeps 3 kB for each array of each (in KvStore.Spec.to_json).
    config.checkpoint.every_steps, config.optim.name, config.optim.ema_decay = None, Optimizer.SGD, None
    during: list[Sample] = []
    with cache_at(scene.fresh("cache")):
        with contextlib.redirect_stdout(io.StringIO()):
            train(validated(config), workdir, after_epoch=lambda epoch, scores: during.append(sample()))
        yield _verdict(f"{epochs} epochs", during)
        yield _verdict(f"{evaluations} evaluations", list(_repeated(lambda: Run.open(workdir).evaluate("test"), evaluations)))
    shutil.rmtree(workdir)


def sample() -> Sample:
    """Resident bytes, open files and threads of this process, once the checkpoint that is being written is.

    What is only waiting to be given back is given back before.
    """
    _settle()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    threads = len(os.listdir("/proc/self/task"))
    return {"resident memory": pages * os.sysconf("SC_PAGE_SIZE"), "open files": _open_files(), "threads": threads}


def _settle() -> None:
    """Waits for a moment in which no file is opened or closed: a checkpoint of few arrays is written by then."""
    latest, since = _open_files(), time.monotonic()
    start = since
    while (now := time.monotonic()) < min(since + QUIET, start + PATIENCE):
        time.sleep(QUIET / 25)
        if (files := _open_files()) != latest:
            latest, since = files, now


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def growth(samples: list[Sample]) -> dict[str, float]:
    """By how much of itself each measure grows: the lowest of the last third after the warm-up against that of the first.

    The lowest, because a checkpoint may still be being written, with files and threads of its own, where the machine is busy.
    """
    after = samples[int(WARM_UP * len(samples)) :]
    third = max(len(after) // 3, 1)
    first, last = ({name: min(s[name] for s in part) for name in samples[0]} for part in (after[:third], after[-third:]))
    return {name: last[name] / first[name] - 1 if last[name] > first[name] + FEW else 0.0 for name in first}


def _repeated(call: Callable[[], object], times: int) -> Iterator[Sample]:
    for _ in range(times):
        call()
        yield sample()


def _verdict(name: str, samples: list[Sample]) -> Result:
    grown = growth(samples)
    detail = ", ".join(f"{measure} {value:+.2%} to {samples[-1][measure]:,}" for measure, value in grown.items())
    fine = all(value < GROWTH for value in grown.values())
    return Result(f"{name} in one process", Outcome.EXACT if fine else Outcome.FAILED, detail)
