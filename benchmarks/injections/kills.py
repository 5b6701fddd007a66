"""kill -9, at random moments of a command's life and right in the middle of its writing."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.injections.scene import Outcome, Result, Scene, finish
from cifar_flax.files.checksum import read_checksummed

CHAIN = 3  # kills of a run before it may end


def random_kills(scene: Scene, rng: np.random.Generator, kills: int) -> Iterator[Result]:
    """Kills trainings at moments drawn from the whole life of an undisturbed one, with an empty data cache to begin with."""
    landed = 0
    while landed < kills:
        workdir, cache = scene.fresh("killed"), scene.fresh("cache")
        names = []
        for _ in range(CHAIN):
            moment = rng.uniform(0, scene.seconds["train"])
            process = scene.start("train", workdir, cache)
            time.sleep(moment)
            if process.poll() is None:  # what is left of a run is over sooner than the whole
                process.kill()
                names.append(f"kill -9 {_where(workdir, cache)}")
            finish(process)
        ended = scene.again("", workdir, cache)
        yield from (ended._replace(injection=name) for name in names[: kills - landed])
        landed += len(names)


def aimed_kills(scene: Scene, rng: np.random.Generator, kills: int) -> Iterator[Result]:
    """Kills trainings while they write the data cache, or a checkpoint."""
    for name, writing in (("while it writes the cache", _writes_cache), ("while it writes a checkpoint", _writes_checkpoint)):
        workdir, cache = scene.fresh("killed"), scene.fresh("cache")
        hit = tries = 0
        while hit < kills and (tries := tries + 1) < 10 * kills:
            if writing is _writes_cache:  # or there is nothing left to write
                cache = scene.fresh("cache")
            hit += _kill_when(scene, workdir, cache, writing, int(rng.integers(0, 2)))
        ended = scene.again(f"kill -9 {name}", workdir, cache)
        if not hit:
            ended = Result(f"kill -9 {name}", Outcome.FAILED, "never hit")
        yield from [ended] * max(hit, 1)


def kills_of_evaluate(scene: Scene, rng: np.random.Generator, kills: int) -> Iterator[Result]:
    """Kills evaluations at random moments; what is below report/ is whole at any of them."""
    name = "kill -9 of evaluate"
    calm = scene.undisturbed
    workdir = calm.copy(scene.fresh("evaluated"))
    for _ in range(kills):
        moment = rng.uniform(0, scene.seconds["evaluate"])
        process = scene.start("evaluate", workdir, calm.cache)
        time.sleep(moment)
        process.kill()
        finish(process)
        if read_checksummed(workdir / "report" / "test.json") != calm.scores:
            yield Result(name, Outcome.FAILED, "test.json differs after the kill")
            return
    done = scene.run("evaluate", workdir, calm.cache)
    same = done.code == 0 and read_checksummed(workdir / "report" / "test.json") == calm.scores
    yield from [Result(name, Outcome.EXACT if same else Outcome.FAILED, "" if same else done.errors)] * kills


def _kill_when(scene: Scene, workdir: Path, cache: Path, writing: Callable[[Path, Path], set[str]], skip: int) -> bool:
    """Kills a training as soon as it writes, after `skip` other times; returns whether it did."""
    old = writing(workdir, cache)  # left by an earlier kill
    process, seen = scene.start("train", workdir, cache), set(old)
    while process.poll() is None:
        seen |= writing(workdir, cache)
        if len(seen) > len(old) + skip:
            process.kill()
            finish(process)
            return True
        time.sleep(0)  # no longer: a file of the cache is written in less than a millisecond
    finish(process)
    return False


def _writes_cache(workdir: Path, cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*/.new-*")}


def _writes_checkpoint(workdir: Path, cache: Path) -> set[str]:
    return {path.name for path in (workdir / "checkpoints").glob("*orbax-checkpoint-tmp*")}


def _where(workdir: Path, cache: Path) -> str:
    """How far a training had come."""
    if (workdir / "metrics.jsonl").exists():
        return "while it trains"
    return "between data and training" if list(cache.glob("*/manifest.json")) else "before the data are there"
