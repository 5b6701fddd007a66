"""What is tortured: a small training on pictures of its own, the commands of `launch/`, and what a run leaves behind."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cifar_flax.files.checksum import read_checksummed

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "e2e" / "tiny.py"
EPOCHS = 4  # of 9 steps each
TIMEOUT = 600  # seconds after which a command hangs; the longest takes ten on an idle machine


class Outcome(StrEnum):
    """How an injection may end, and that it ended in none of these ways."""

    EXACT = "exact"
    FELL_BACK = "fell back"  # to a good state, which it said; the final weights are those of an undisturbed run
    STOPPED = "stopped"  # with one line; where the fault is taken away, the same command goes on exactly
    FAILED = "FAILED"


class Result(NamedTuple):
    """One injection: what was done, how it ended, and what was said or went wrong."""

    injection: str
    outcome: Outcome
    detail: str = ""


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    output: str
    errors: str
    seconds: float

    @property
    def fault(self) -> str:
        """Why this is not a clear stop: wrong exit code, or anything but one line on stderr; empty where it is one."""
        lines = self.errors.strip().splitlines()
        if self.code in (1, 2, 75) and len(lines) == 1:
            return ""
        return f"exit code {self.code}, {len(lines)} lines on stderr: {self.errors.strip()[-500:]}"


class Scene:
    """A folder to torture in: the pictures, a cache of compiled programs, and an undisturbed run to compare with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._numbers = folder, count()
        self.pictures = folder / "pictures"
        for seed, (split, images) in enumerate((("train", 32), ("test", 10))):
            _draw(self.pictures / split, images, seed)
        # In this process, and for those that it starts: most of their time is XLA's.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

    def fresh(self, name: str) -> Path:
        """A path that nothing has used."""
        return self.folder / f"{next(self._numbers):04d}-{name}"

    @property
    def overrides(self) -> list[str]:
        """What the training has that tests/e2e/tiny.py has not."""
        return [f"--config.data.name=folder:{self.pictures}", "--config.data.image_size=8", f"--config.train.epochs={EPOCHS}"]

    def start(self, verb: str, workdir: Path, cache: Path, *more: str, **environment: str) -> "subprocess.Popen[str]":
        """Begins `launch/VERB.py` on a run directory: train, or evaluate; with `more` flags."""
        flags = [f"--config={CONFIG}", f"--workdir={workdir}", *self.overrides] if verb == "train" else [f"--run={workdir}"]
        return subprocess.Popen(
            [sys.executable, str(ROOT / "launch" / f"{verb}.py"), *flags, *more],
            env={**os.environ, "CIFAR_FLAX_CACHE": str(cache), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, verb: str, workdir: Path, cache: Path, **environment: str) -> Done:
        """Runs `launch/VERB.py` to its end."""
        return finish(self.start(verb, workdir, cache, **environment))

    @cached_property
    def undisturbed(self) -> "Undisturbed":
        """The run to compare with, trained and evaluated."""
        workdir, cache = self.fresh("undisturbed"), self.fresh("cache")
        for verb in ("train", "evaluate"):
            self._calmly(verb, workdir, cache)
        return Undisturbed(workdir, cache, remains(workdir), read_checksummed(workdir / "report" / "test.json"))

    @cached_property
    def seconds(self) -> dict[str, float]:
        """How long train and evaluate take undisturbed, once all is compiled and with an empty data cache to begin with."""
        assert self.undisturbed  # which compiles
        workdir, cache = self.fresh("timed"), self.fresh("cache")
        return {verb: self._calmly(verb, workdir, cache).seconds for verb in ("train", "evaluate")}

    def _calmly(self, verb: str, workdir: Path, cache: Path) -> Done:
        done = self.run(verb, workdir, cache)
        if done.code:
            raise RuntimeError(f"{verb} fails undisturbed: {done.errors}")
        return done

    def again(self, injection: str, workdir: Path, cache: Path, stop: Done | None = None) -> Result:
        """Trains once more, undisturbed now, and judges what comes out; `stop` is how the disturbed command ended."""
        if stop is not None and stop.code == 0:
            return Result(injection, Outcome.FAILED, "the fault went unnoticed, or came too late")
        if stop is not None and stop.fault:
            return Result(injection, Outcome.FAILED, stop.fault)
        done = self.run("train", workdir, cache)
        if done.code:
            return Result(injection, Outcome.FAILED, f"does not go on: {done.errors.strip()[-500:]}")
        difference = differing(remains(workdir), self.undisturbed.remains)
        if difference:
            return Result(injection, Outcome.FAILED, difference)
        return Result(injection, Outcome.STOPPED if stop else Outcome.EXACT, stop.errors.strip() if stop else "")


class Undisturbed(NamedTuple):
    """A run that nothing disturbed."""

    workdir: Path
    cache: Path
    remains: dict[str, Any]
    scores: dict[str, Any]

    def copy(self, to: Path) -> Path:
        """A copy of the run directory."""
        return Path(shutil.copytree(self.workdir, to))


def finish(process: "subprocess.Popen[str]") -> Done:
    """Waits for a command to end; one that hangs is killed, and has exit code -9."""
    start = time.monotonic()
    try:
        output, errors = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        errors += f"\nhangs: killed after {TIMEOUT} s"
    return Done(process.returncode, output, errors, time.monotonic() - start)


def remains(workdir: Path) -> dict[str, Any]:
    """What a run leaves behind, but for times: a hash of the latest and the best state, which is best, config and records."""
    from cifar_flax.config.serialize import to_dict
    from cifar_flax.run import Run
    from cifar_flax.training.checkpoint import digest
    from cifar_flax.training.records import TIMES, read_records

    run = Run.open(workdir)
    records = [{name: x for name, x in record.items() if name not in TIMES} for record in read_records(workdir)]
    states = {which: (run.step(which), digest(run._state(which))) for which in ("latest", "best")}
    return {**states, "config": to_dict(run.config), "preprocessing": run.preprocessing, "records": records}


def differing(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """The first part in which two of what `remains` returns differ, in words; empty where none does."""
    part = next((name for name in expected if found[name] != expected[name]), None)
    return "" if part is None else f"{part} silently differs: {found[part]!r:.300} is not {expected[part]!r:.300}"


@contextmanager
def cache_at(folder: Path) -> Iterator[Path]:
    """Has this process look for data there."""
    before = os.environ.get("CIFAR_FLAX_CACHE")
    os.environ["CIFAR_FLAX_CACHE"] = str(folder)
    try:
        yield folder
    finally:
        del os.environ["CIFAR_FLAX_CACHE"]
        if before is not None:
            os.environ["CIFAR_FLAX_CACHE"] = before


def _draw(folder: Path, images: int, seed: int) -> None:
    """Pictures of ten classes, 8 pixels a side: a bright row or column, in noise."""
    rng = np.random.default_rng(seed)
    for label in range(10):
        (folder / f"line{label}").mkdir(parents=True)
        for i in range(images):
            pixels = rng.integers(0, 120, (8, 8, 3), dtype=np.uint8)
            pixels[label % 5 + 1] += 100
            upright = pixels if label < 5 else pixels.transpose(1, 0, 2)
            Image.fromarray(np.ascontiguousarray(upright)).save(folder / f"line{label}" / f"{i:02d}.png")
