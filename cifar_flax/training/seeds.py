"""Several runs of one config that differ in the seed alone, from one command."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import jax
from absl import logging

from cifar_flax.config import Config
from cifar_flax.errors import RERUN_HINT, Diverged, Preempted, UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.runtime.arithmetic import standard_arithmetic
from cifar_flax.runtime.multihost import broadcast_from_main, check_same_on_all_hosts, is_main_process, raise_on_all_hosts
from cifar_flax.runtime.preemption import Interrupt
from cifar_flax.training.checkpoints.files import saved_steps
from cifar_flax.training.checkpoints.path import checkpoint_folder
from cifar_flax.training.checks import shared_inputs
from cifar_flax.training.loop import fit, make_trainer
from cifar_flax.training.records import epoch_values
from cifar_flax.training.run_dir import with_recorded_data, with_recorded_dtype
from cifar_flax.training.seed_folders import SUMMARY


@dataclass(frozen=True)
class SeedRun:
    """One of the runs: an ordinary config and an ordinary run directory."""

    config: Config
    workdir: Path


def seed_runs(config: Config, workdir: Path) -> list[SeedRun]:
    """The runs that `config.train.num_seeds` asks for, in `workdir`/seed0 and so on."""
    seeds = range(config.seed, config.seed + config.train.num_seeds)
    single = replace(config, train=replace(config.train, num_seeds=1))
    return [SeedRun(replace(single, seed=seed), workdir / f"seed{seed}") for seed in seeds]


@standard_arithmetic()
def train_seeds(
    config: Config,
    workdir: str | Path,
    restart: bool = False,
    max_minutes: float | None = None,
    profile: bool = False,
    layers: bool = False,
) -> None:
    """Trains all of `config.train.num_seeds` runs, resuming those that were begun, and writes their mean and sd.

    They are trained by one vmapped program where `config.train.vmap_seeds` says so and all can go on from one step; else one
    after another.

    Args:
      config: a checked config.
      workdir: holds a run directory a seed, and `seeds.json`.
      restart: begins all of them again.
      max_minutes: for all of them together.
      profile: records a trace of a few steps of the first.
      layers: as in `loop.train`, for the first.

    Raises:
      UserError: as `loop.train`; or the training images have changed since the first of the runs began.
      RunFailed, Preempted: as `loop.train`; the same command, without `--restart`, resumes. Seeds that diverge are named when
        the others have ended.
    """
    workdir = Path(workdir)
    checkpoint_folder(workdir)
    check_same_on_all_hosts(shared_inputs(config, restart))  # before exchanges that depend on it
    runs = seed_runs(config, workdir)
    wanted = jax.default_backend() != "cpu" if config.train.vmap_seeds == "auto" else config.train.vmap_seeds
    vmapped = wanted and broadcast_from_main(restart or can_vmap_seeds(config, [run.workdir for run in runs]))
    with Interrupt(max_minutes) as interrupt:
        train = _train_vmapped if vmapped else _train_in_turn
        diverged = train(runs, interrupt, restart, profile, layers)
    if (ended := [run for run in runs if run.workdir not in diverged]) and is_main_process():
        print(_write_seed_scores(ended, workdir, [path.name for path in diverged]))
    if diverged:
        error = Diverged(f"{len(diverged)} of {len(runs)} seeds diverged; the first: {next(iter(diverged.values()))}")
        error.ended = [run.workdir for run in ended]
        raise error


def _train_vmapped(
    runs: Sequence[SeedRun], interrupt: Interrupt, restart: bool, profile: bool, layers: bool
) -> Mapping[Path, str]:
    """Trains all runs in one program; returns the messages of those that have diverged."""
    try:
        _train(runs, runs, (), interrupt, restart, profile, layers)
    except Diverged as e:
        return e.seeds or {runs[0].workdir: str(e)}
    return {}


def _train_in_turn(
    runs: Sequence[SeedRun], interrupt: Interrupt, restart: bool, profile: bool, layers: bool
) -> Mapping[Path, str]:
    """Trains the runs one after another; returns the messages of those that have diverged."""
    diverged: dict[Path, str] = {}  # and not the errors, whose frames would keep a trainer in memory
    for i, run in enumerate(runs):
        which = f"seed {run.config.seed}, {i + 1} of {len(runs)}"
        if broadcast_from_main(bool(interrupt.requested)):
            reason = interrupt.requested or "another process is told to stop"
            raise Preempted(f"{reason}: stopped before {which}, in {run.workdir.parent}; {RERUN_HINT}")
        if is_main_process():
            print(which, flush=True)
        others = [] if i else [later.workdir for later in runs[1:]]
        try:
            _train([run], runs, others, interrupt, restart, profile and i == 0, layers and i == 0)
        except Diverged as e:
            logging.error("%s", e)
            diverged[run.workdir] = str(e)
    return diverged


def _train(
    runs: Sequence[SeedRun],
    all_runs: Sequence[SeedRun],
    others: Sequence[Path],
    interrupt: Interrupt,
    restart: bool,
    profile: bool,
    layers: bool,
) -> None:
    """Trains runs in one program, whose memory is free again when it returns; the first of all decides dtype and images."""
    siblings = [run.workdir for run in all_runs]
    first = with_recorded_dtype(runs[0].config, runs[0].workdir, restart, siblings)
    trainer = make_trainer(first, tuple(run.config.seed for run in runs))
    if all_runs[0] not in runs:
        raise_on_all_hosts(lambda: with_recorded_data(trainer.preprocessing, first, siblings[0]))
    fit(trainer, [run.workdir for run in runs], interrupt, restart, profile=profile, layers=layers, others=others)


def can_vmap_seeds(config: Config, workdirs: Sequence[Path]) -> bool:
    """Whether the runs can be resumed in one program, from a step of which all have the checkpoint, or that none has begun.

    A kill between the writes of two seeds leaves one a checkpoint behind, to which all then go back. Where a seed may have been
    stopped early instead, while others trained on, none does.
    """
    latest = 1 if config.early_stopping.patience else min(2, config.checkpoint.keep_latest)
    steps = [saved_steps(workdir) for workdir in workdirs]
    return not any(steps) or bool(set.intersection(*(set(of_one[-latest:]) for of_one in steps)))


def _write_seed_scores(runs: Sequence[SeedRun], workdir: Path, diverged: Sequence[str]) -> str:
    """Writes `seeds.json` and returns it as a line: the best validation top-1 of each run; without validation, training's.

    Args:
      runs: which have ended.
      workdir: their folder.
      diverged: the names of those that have not.

    Raises:
      UserError: no run has a record of an epoch.
    """
    for name in ("validation_top1", "train_top1"):
        if top1 := {run.workdir.name: max(top1s.values()) for run in runs if (top1s := epoch_values(run.workdir, name))}:
            break
    else:
        raise UserError(
            f"{workdir}: no seed has an epoch in its metrics.jsonl; put those files back, or --restart to train anew"
        )
    if missing := [run.workdir.name for run in runs if run.workdir.name not in top1]:
        logging.warning("%s: no epoch in metrics.jsonl of %s; left out of the mean", workdir, ", ".join(missing))
    average, spread = mean(top1.values()), stdev(top1.values()) if len(top1) > 1 else None
    summary = {"score": name, "seeds": top1, "mean": average, "sd": spread, "diverged": list(diverged)}
    write_text(workdir / SUMMARY, json.dumps(summary, indent=2) + "\n")
    of = f"over {len(top1)} seeds: mean {average:.2%}, sd {spread:.2%}" if spread is not None else f"of one seed: {average:.2%}"
    without = f", without {', '.join(diverged)}, which diverged" if diverged else ""
    return f"{name.replace('_top1', ' top-1')} {of}{without}"
