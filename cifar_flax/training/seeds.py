"""Several runs of one config that differ in the seed alone, from one command."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import jax

from cifar_flax.config import Config
from cifar_flax.files.atomic import write_text
from cifar_flax.runtime.multihost import is_main_process
from cifar_flax.training.loop import train
from cifar_flax.training.records import read_records
from cifar_flax.training.seed_folders import SUMMARY
from cifar_flax.training.together import can_train_together, train_together


@dataclass(frozen=True)
class Member:
    """One of the runs: an ordinary config and an ordinary run directory."""

    config: Config
    workdir: Path


def members(config: Config, workdir: Path) -> list[Member]:
    """The runs that `config.train.num_seeds` asks for, in `workdir`/seed0 and so on."""
    seeds = range(config.seed, config.seed + config.train.num_seeds)
    alone = replace(config, train=replace(config.train, num_seeds=1))
    return [Member(replace(alone, seed=seed), workdir / f"seed{seed}") for seed in seeds]


def train_seeds(
    config: Config, workdir: Path, restart: bool = False, max_minutes: float | None = None, together: bool | None = None
) -> None:
    """Trains all of `config.train.num_seeds` runs, going on with those that were begun, and writes their mean and sd.

    Args:
      config: a checked config.
      workdir: holds a run directory a seed, and `seeds.json`.
      restart: begins all of them again.
      max_minutes: for all of them.
      together: whether they make their steps side by side, spread over the devices, instead of one after another. None does so
        where it pays and can be done: on accelerators. On a CPU batched convolutions are slow.

    Raises:
      UserError, RunFailed, Preempted: as `train` does; the same command goes on.
    """
    runs, begin = members(config, workdir), time.monotonic()
    if together is None:
        together = jax.default_backend() != "cpu" and can_train_together(config, [run.workdir for run in runs])
    if together:
        train_together([run.config for run in runs], [run.workdir for run in runs], restart, max_minutes)
    else:
        for i, run in enumerate(runs, 1):
            if is_main_process():
                print(f"seed {run.config.seed}, {i} of {len(runs)}", flush=True)
            left = None if max_minutes is None else max(0.0, max_minutes - (time.monotonic() - begin) / 60)
            train(run.config, run.workdir, restart, max_minutes=left)
            jax.clear_caches()  # each compiles its own program, which would stay for good
    if is_main_process():
        print(_summarize(runs, workdir))


def _summarize(runs: Sequence[Member], workdir: Path) -> str:
    """Writes `seeds.json` and returns it as a line: the best validation top-1 of each run; without validation, training's."""
    name = "train_top1" if _epochs(runs[0])[-1].get("validation_top1") is None else "validation_top1"
    top1 = {run.workdir.name: max(epoch[name] for epoch in _epochs(run)) for run in runs}
    spread = stdev(top1.values())
    write_text(
        workdir / SUMMARY,
        json.dumps({"score": name, "seeds": top1, "mean": mean(top1.values()), "sd": spread}, indent=2) + "\n",
    )
    return f"{name.replace('_top1', ' top-1')} over {len(top1)} seeds: mean {mean(top1.values()):.2%}, sd {spread:.2%}"


def _epochs(run: Member) -> list[dict[str, float]]:
    return [record for record in read_records(run.workdir) if record["kind"] == "epoch"]
