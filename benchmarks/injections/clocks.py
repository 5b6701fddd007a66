"""A clock that jumps back, between the processes of a run and within them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.injections.scene import Outcome, Result, Scene, finish

# Python runs a module of this name before anything else.
SITE = """
import os, time
offset = float(os.environ["CLOCK_OFFSET"])
now, now_ns, start = time.time, time.time_ns, time.monotonic()
def shift():
    return offset - 3600 * int(time.monotonic() - start)
time.time = lambda: now() + shift()
time.time_ns = lambda: now_ns() + int(1e9 * shift())
"""
DAY = 86400


def clock_jumps(scene: Scene, rng: np.random.Generator, runs: int) -> Iterator[Result]:
    """Trains with a clock that jumps back by an hour each second, killed once, and goes on a year earlier."""
    site = scene.folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    for _ in range(runs):
        workdir, cache = scene.fresh("clock"), scene.fresh("cache")
        moment = rng.uniform(0.5, 1) * scene.seconds["train"]
        process = scene.start("train", workdir, cache, **_clock(site, 0))
        time.sleep(moment)
        process.kill()
        finish(process)
        seen = _event_files(workdir)
        for path in [*workdir.rglob("*"), *cache.rglob("*")]:  # as if that process had lived tomorrow
            os.utime(path, (time.time() + DAY, time.time() + DAY))
        done = scene.run("train", workdir, cache, **_clock(site, -365 * DAY))
        if done.code:
            yield Result("clock jumping back", Outcome.FAILED, done.errors.strip()[-500:])
            continue
        result = scene.again("clock jumping back", workdir, cache)
        in_order = _event_files(workdir)[: len(seen)] == seen
        yield result if in_order else result._replace(outcome=Outcome.FAILED, detail="TensorBoard reads later events first")


def _event_files(workdir: Path) -> list[str]:
    """In the order in which TensorBoard reads them, and lets later ones overrule those before."""
    return sorted(path.name for path in (workdir / "tensorboard").glob("events*"))


def _clock(site: Path, offset: float) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "CLOCK_OFFSET": str(offset)}
