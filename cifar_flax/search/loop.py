"""Running the trials of a search one after another, each an ordinary run directory."""

import fcntl
import gc
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial

from cifar_flax.config import Config
from cifar_flax.errors import RERUN_HINT, ConfigError, Diverged, Preempted, UserError, WorkdirLocked
from cifar_flax.runtime.preemption import Interrupt, StopRequested
from cifar_flax.search.space import Space, Values, describe
from cifar_flax.search.study import Study, slot_of
from cifar_flax.training.loop import train
from cifar_flax.training.records import read_records
from cifar_flax.training.workdir import in_use

POLL_SECONDS = 1.0  # between looks at what the other processes do, when there is nothing left to begin


@dataclass(frozen=True)
class Search:
    """What is searched, and where.

    Attributes:
      base: the config that trials differ from.
      space: in what.
      workdir: holds the trials that this process runs, and others that share it, `trials/0000` and so on.
      folds: of cross-validation, each a run in `trials/0000/fold0` and so on; None for one run with `base`'s validation set.
    """

    base: Config
    space: Space
    workdir: Path
    folds: int | None = None

    def config(self, values: Values) -> Config:
        """The config of a trial, as one would train it by itself, without folds of the search's making."""
        return self.space.configure(self.base, values)

    def folder(self, slot: int) -> Path:
        """Where a trial is."""
        return self.workdir / "trials" / f"{slot:04d}"

    def in_use(self, slot: int) -> bool:
        """Whether a process trains one of its runs, though it may have been silent for so long that it was taken for dead."""
        folder = self.folder(slot)
        return any(map(in_use, (folder, *folder.glob("fold*"))))

    def place(self, slot: int) -> dict[str, Any]:
        """Where this process has run a trial, for the processes that do not share the folder."""
        return {"host": socket.gethostname(), "folder": str(self.folder(slot).absolute()), "workdir": _identity(self.workdir)}

    def found(self, trial: FrozenTrial) -> str:
        """The folder of a finished trial, after the name of its machine if it is in none that this process shares."""
        here = _identity(self.workdir)
        if trial.user_attrs.get("workdir", here) == here:
            return str(self.folder(slot_of(trial)))
        return f"{trial.user_attrs['host']}:{trial.user_attrs['folder']}"

    def runs(self, slot: int, values: Values) -> list[tuple[Path, Config]]:
        """The run directories of a trial and what is trained in them."""
        folder, config = self.folder(slot), self.config(values)
        if self.folds is None:
            return [(folder, config)]
        data = [replace(config.data, folds=self.folds, fold=fold) for fold in range(self.folds)]
        return [(folder / f"fold{fold}", replace(config, data=part)) for fold, part in enumerate(data)]


def run_trials(search: Search, study: Study, after_trial: Callable[[], object]) -> None:
    """Runs trials until all of the study's are finished, by this process or by others.

    Args:
      search: what to run.
      study: who runs which.
      after_trial: called after each trial of this process.

    Raises:
      UserError: what no trial can be run without is missing, such as the data. The trial is left to be run again.
      RunFailed: the disk is full. Likewise.
      Preempted: SIGTERM or SIGINT came; everything is saved. Likewise.
    """
    print(f"{study.trials} trials, each in a folder of {search.workdir / 'trials'} with its progress in output.txt", flush=True)
    while (trial := _next(search, study)) is not None:
        slot = slot_of(trial)
        print(f"trial {slot}: {describe(trial.params)}", flush=True)
        try:
            with study.alive(trial):
                result = _run(search, study, trial)
        except optuna.exceptions.UpdateFinishedTrialError:  # silent for too long, as when the machine was asleep
            print(f"trial {slot}: another process has taken it over", flush=True)
            continue
        except WorkdirLocked as e:  # that process was only silent, and has come back between two folds
            study.give_back(trial)
            print(f"trial {slot}: {e}", flush=True)
            continue
        except BaseException:
            study.give_back(trial)
            raise
        finally:
            jax.clear_caches()  # each trial compiles anew; what it compiled would stay for good
            gc.collect()
        if study.finish(trial, **result, **search.place(slot)):
            print(f"trial {slot}: {_outcome(**result)}  ({len(study.finished())} of {study.trials} finished)", flush=True)
            after_trial()


def _next(search: Search, study: Study) -> Trial | None:
    """Waits for a trial to run, which may be one that another process leaves when it dies; None once all are finished."""
    told = False
    with Interrupt() as interrupt:
        while (trial := study.claim(search.in_use)) is None and (slots := study.unfinished()):
            if not told:
                these = ", ".join(map(str, slots))
                print(f"waiting for trials {these}: other processes run them, are silent, or have died", flush=True)
                told = True
            try:
                interrupt.check()
            except StopRequested as stop:
                raise Preempted(f"{stop}: no trial was running here; {RERUN_HINT}") from None
            time.sleep(POLL_SECONDS)
    if interrupt.requested and trial is not None:
        study.give_back(trial)
        raise Preempted(f"{interrupt.requested}: no trial was running here; {RERUN_HINT}")
    return trial


def _run(search: Search, study: Study, trial: Trial) -> dict[str, Any]:
    """Trains a trial's runs and returns what `Study.finish` is to be told."""
    top1: list[float] = []
    try:
        for fold, (folder, config) in enumerate(search.runs(slot_of(trial), trial.params)):
            folder.mkdir(parents=True, exist_ok=True)
            last = config.train.epochs if search.folds is None else None
            report = _reporter(study, trial, folder, last) if fold == 0 else None
            with (search.folder(slot_of(trial)) / "output.txt").open("a", encoding="utf-8") as output, redirect_stdout(output):
                train(config, folder, after_epoch=report)
            top1.append(max(score for _, score in _validated(folder)))
    except optuna.TrialPruned as e:
        return {"value": None, "note": str(e)}
    except (Diverged, UserError, jax.errors.JaxRuntimeError) as e:
        if not (note := _own_fault(e)):
            raise
        return {"value": None, "failed": True, "note": note}
    spread = {} if search.folds is None else {"sd": float(np.std(top1, ddof=1)), "folds": top1}
    return {"value": float(np.mean(top1)), **spread}


def _own_fault(e: Diverged | UserError | jax.errors.JaxRuntimeError) -> str:
    """Why a trial has failed by what its own config asks for; empty where something else is at fault, such as missing data."""
    if isinstance(e, Diverged):
        return str(e).partition(";")[0]
    if isinstance(e, UserError):
        return str(e) if isinstance(e, ConfigError) else ""
    return "out of memory" if "RESOURCE_EXHAUSTED" in str(e) else ""


def _reporter(study: Study, trial: Trial, folder: Path, last: int | None) -> Callable[[int, dict[str, float]], None]:
    """What to call after each epoch: it reports the score, and ends a trial that is hopeless, unless `last` ends it anyway."""
    reported = study.reported(trial)

    def report(epoch: int, scores: dict[str, float]) -> None:
        for done, top1 in [*_validated(folder), (epoch, scores["top1"])]:  # those of before this process, too
            if done not in reported:
                trial.report(top1, done)
                reported.add(done)
        if epoch != last and trial.should_prune():
            raise optuna.TrialPruned(f"pruned after epoch {epoch}")

    return report


def _validated(folder: Path) -> Iterator[tuple[int, float]]:
    """Yields (epoch, validation top-1) of the epochs that a run has recorded."""
    for record in read_records(folder):
        if record["kind"] == "epoch" and record.get("validation_top1") is not None:
            yield record["epoch"], record["validation_top1"]


def _outcome(value: float | None, sd: float | None = None, note: str = "", **_: Any) -> str:
    spread = "" if sd is None else f" +- {sd:.2%}"
    return note if value is None else f"validation top-1 {value:.2%}{spread}"


def _identity(workdir: Path) -> str:
    """What tells a search's folder from those of other machines, by whatever path each knows it."""
    with (workdir / ".id").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = file.read()
        if not known:
            known = uuid.uuid4().hex
            file.write(known)
    return known
