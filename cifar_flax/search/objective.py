"""The trials of a search, each an ordinary run directory, or one for each fold of a cross-validation."""

import gc
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from cifar_flax.config import Config, DataConfig
from cifar_flax.data import cache
from cifar_flax.errors import RERUN_HINT, ConfigError, Diverged, Preempted, UserError
from cifar_flax.files.folder import make_folder, open_to_append
from cifar_flax.runtime.preemption import Interrupt
from cifar_flax.search.space import Space, Values, describe
from cifar_flax.search.study import DEATHS, PROGRESS, Study, trial_index
from cifar_flax.training.loop import AfterEpoch, train
from cifar_flax.training.records import validated_epochs
from cifar_flax.training.run_dir import RESTART_HINT, in_use
from cifar_flax.training.trainer import Trainer
from cifar_flax.training.writers.summary import write_summary

MOST_DEATHS = 3  # of a trial's processes without a further epoch, after which it is given up: it may take too much memory
POLL_SECONDS = 1.0  # between looks at the other processes' trials, when there is none to run here


@dataclass(frozen=True)
class Search:
    """The subject of a search, and its folder.

    Attributes:
      base: the config from which the trials differ.
      space: the fields in which they differ.
      workdir: folder of this process' trials, `trials/0000` and so on. Several processes may share it.
      folds: number of folds of a cross-validation, each a run in `trials/0000/fold0` and so on; None for a single run with the
        validation set of `base`.
      train: trains a config in a run directory, as `cifar_flax.training.loop.train` does.
      summarize: gives the writers of a run its hyperparameters and final scores.
    """

    base: Config
    space: Space
    workdir: Path
    folds: int | None = None
    train: Callable[..., object] = train
    summarize: Callable[[Path], None] = write_summary  # without pictures, for which the network would be compiled anew

    def check(self) -> None:
        """Prepares to train the base config, or else a trial: what machine, data or a tracker refuse would be no trial's fault.

        Raises:
          UserError: neither can be trained, and for another reason than a field that the trials set.
        """
        for config in (self.base, self.space.configure(self.base, self.space.example())):
            try:
                data = config.data if self.folds is None else replace(config.data, folds=self.folds)
                _ = Trainer.from_config(replace(config, data=data)).streamed
                return
            except ConfigError as e:
                error = e
        if not any(f"config.{name}" in str(error) for name in self.space.domains):
            raise error

    def train_run(self, config: Config, folder: Path, **options: Any) -> None:
        """Trains a run, and summarizes it once it has ended, be it pruned."""
        try:
            self.train(config, folder, **options)
        except optuna.TrialPruned:
            self._end(folder)
            raise
        except UserError as e:
            e.args = (str(e).replace(RESTART_HINT, "move that folder away, and the trial is trained anew"),)
            raise
        self._end(folder)

    def _end(self, folder: Path) -> None:
        """Summarizes a run, which a request to stop does not cut short: its process would pass for dead."""
        with Interrupt() as interrupt, interrupt.defer_stop():
            self.summarize(folder)
        if interrupt.requested:
            raise Preempted(f"{interrupt.requested}: {folder} is trained; {RERUN_HINT}")

    def config(self, values: Values) -> Config:
        """The config of a trial, as one would train it by itself, without the folds of the search."""
        return self.space.configure(self.base, values)

    def folder(self, index: int) -> Path:
        """The folder of a trial, whichever process runs it."""
        return self.workdir / "trials" / f"{index:04d}"

    def in_use(self, index: int) -> bool:
        """Whether a process trains in the trial's folder, even one that has been silent and was taken for dead."""
        folder = self.folder(index)
        return any(map(in_use, (folder, *folder.glob("fold*"))))

    def host_info(self, index: int) -> dict[str, str]:
        """Host and folder in which this process has run a trial, for the processes of other machines."""
        return {"host": socket.gethostname(), "folder": str(self.folder(index).absolute())}

    def trial_path(self, trial: FrozenTrial) -> str:
        """The folder of a finished trial, after the name of its machine if it is not in this workdir."""
        index, attributes = trial_index(trial), trial.user_attrs
        if self.host_info(index).items() <= attributes.items() or self._recorded_here(trial):
            return str(self.folder(index))
        return f"{attributes['host']}:{attributes['folder']}"

    def _recorded_here(self, trial: FrozenTrial) -> bool:
        """Whether this workdir, which was moved, or whose machine has another name than before, has the run of a trial."""
        first = self.folder(trial_index(trial)) / ("fold0" if self.folds else "")
        try:
            return first.is_dir() and validated_epochs(first) == trial.intermediate_values
        except UserError:
            return False

    def runs(self, index: int, values: Values) -> list[tuple[Path, Config]]:
        """The run directories of a trial, and the config of each."""
        folder, config = self.folder(index), self.config(values)
        if self.folds is None:
            return [(folder, config)]
        data = [replace(config.data, folds=self.folds, fold=fold) for fold in range(self.folds)]
        return [(folder / f"fold{fold}", replace(config, data=part)) for fold, part in enumerate(data)]


def run_trials(
    search: Search, study: Study, after_trial: Callable[[], object] = lambda: None, max_minutes: float | None = None
) -> None:
    """Runs trials until all of the study's are finished, by this process or by others.

    Args:
      search: what is searched.
      study: the list of trials, shared with other processes.
      after_trial: called after each trial that this process finishes.
      max_minutes: after which the trial that runs is saved, and no other is begun here; None for as long as it takes.

    Raises:
      UserError: no trial can be run, because the data are missing, say. The trial is left to be run again.
      RunFailed: the disk is full. The trial is left to be run again.
      Preempted: SIGTERM or SIGINT came, or the time was over; everything is saved, and the trial is left to be run again.
    """
    reported_waiting, begin = False, time.monotonic()

    def minutes_left() -> float | None:
        return None if max_minutes is None else max(0.0, max_minutes - (time.monotonic() - begin) / 60)

    def check_time() -> None:
        if minutes_left() == 0:
            finished = f"{len(study.finished())} of {study.trials} trials are finished"
            raise Preempted(f"--max_minutes={max_minutes:g} are over: {finished}; {RERUN_HINT}")

    def report(trial: FrozenTrial) -> None:
        print(
            f"trial {trial_index(trial)}: {_outcome(trial)}  ({len(study.finished())} of {study.trials} finished)", flush=True
        )
        after_trial()
        if study.unfinished():
            check_time()

    def wait(unfinished: list[int]) -> None:
        nonlocal reported_waiting
        if not reported_waiting:
            indices = ", ".join(map(str, unfinished))
            print(f"waiting for trials {indices}: other processes run them, are silent, or have died", flush=True)
            reported_waiting = True
        check_time()
        time.sleep(POLL_SECONDS)

    print(f"{study.trials} trials, each in a folder of {search.workdir / 'trials'} with its progress in output.txt", flush=True)
    try:
        study.run(lambda trial: objective(search, trial, minutes_left), in_use=search.in_use, wait=wait, after_trial=report)
    except Preempted:
        check_time()  # a trial says how long it had itself
        raise


def objective(search: Search, trial: Trial, minutes_left: Callable[[], float | None] = lambda: None) -> float:
    """Trains the run or the runs of a trial.

    Args:
      search: what is searched.
      trial: an Optuna trial with its index and all its params. Its user attributes then hold where it was run (`host`,
        `folder`), the score of each run (`top1`), and why it cannot be trained (`failure`).
      minutes_left: for it to train, after which it saves and ends; None for as long as it takes.

    Returns:
      The validation top-1, in [0, 1], of the best epoch; with folds its mean over them.

    Raises:
      optuna.TrialPruned: the trial is worse than earlier ones, or cannot be trained with its values.
      UserError: the training images are not those of earlier trials with the same data set.
      Preempted: as `run_trials`.
    """
    index, top1 = trial_index(trial), []
    print(f"trial {index}: {describe(trial.params)}", flush=True)
    for name, value in search.host_info(index).items():
        trial.set_user_attr(name, value)
    try:
        if trial.user_attrs[DEATHS] >= MOST_DEATHS:
            raise ConfigError(f"its process died {MOST_DEATHS} times without a further epoch")
        for fold, (folder, config) in enumerate(search.runs(index, trial.params)):
            if minutes_left() == 0:
                raise Preempted(f"its time is over; {RERUN_HINT}")
            make_folder(folder)
            after_epoch = _reporter(trial, folder, fold, whole=search.folds is None)
            check_data = partial(_check_data, trial, config.data)
            with open_to_append(search.folder(index) / "output.txt") as output, redirect_stdout(output):
                search.train_run(config, folder, after_epoch=after_epoch, check_data=check_data, max_minutes=minutes_left())
            top1.append(_best_epoch(folder))
    except (Diverged, ConfigError, MemoryError, jax.errors.JaxRuntimeError) as e:
        if not (failure := _explain_failure(e)):
            raise
        # Optuna's FAIL is for attempts that are made again. PRUNED trials are counted, and TPE avoids what led to them.
        trial.set_user_attr("failure", failure)
        raise optuna.TrialPruned(failure) from None
    finally:
        jax.clear_caches()  # each trial compiles anew; its programs would stay for good
        gc.collect()
    trial.set_user_attr("top1", top1)
    return float(np.mean(top1))


def _check_data(trial: Trial, data: DataConfig, hashes: Mapping[str, str]) -> None:
    """Compares the training images with those that the study had when one of its processes first trained on this data set.

    The study knows a data set by its name in the config: the absolute path, by which the cache does, may differ by machine.
    """
    study, name = trial.study, f"data {cache.key_of(f'{data.name} {data.test_fraction}', data.image_size)}"
    if name not in study.user_attrs:
        study.set_user_attr(name, hashes)
    if study.user_attrs[name] != hashes:
        raise UserError(
            f"{data.name} is not what it was in earlier trials of the study {study.study_name}; put it back, or search anew "
            "with another --study and --workdir"
        )


def _explain_failure(e: Diverged | ConfigError | MemoryError | jax.errors.JaxRuntimeError) -> str:
    """Why a trial cannot be trained with its values; "" if they are not to blame."""
    if isinstance(e, MemoryError):
        return "out of memory"
    if isinstance(e, jax.errors.JaxRuntimeError):
        return "out of memory" if "RESOURCE_EXHAUSTED" in str(e) else ""
    return str(e).partition(";")[0] if isinstance(e, Diverged) else str(e)


def _reporter(trial: Trial, folder: Path, fold: int, whole: bool) -> AfterEpoch:
    """Reports the epochs so far of the first fold to Optuna; returns a callback for others, which prunes, but no whole run."""
    validated = validated_epochs(folder)
    for epoch, top1 in validated.items() if fold == 0 else ():
        trial.report(top1, epoch)

    def report(epoch: int, scores: dict[str, float], over: bool) -> None:
        trial.set_user_attr(PROGRESS, [fold, epoch])
        if fold:
            return
        if epoch not in validated:  # or trained once more, from the last checkpoint
            trial.report(scores["top1"], epoch)
        if not (over and whole) and trial.should_prune():
            raise optuna.TrialPruned

    return report


def _best_epoch(folder: Path) -> float:
    """The best validation top-1 of a finished run."""
    if not (validated := validated_epochs(folder)):
        raise UserError(f"{folder}: no epoch in metrics.jsonl; put that file back, or remove the folder to train anew")
    return max(validated.values())


def _outcome(trial: FrozenTrial) -> str:
    deviation = standard_deviation(trial)
    spread = "" if deviation is None else f" +- {deviation:.2%}"
    return note(trial) or f"validation top-1 {trial.value:.2%}{spread}"


def standard_deviation(trial: FrozenTrial) -> float | None:
    """Sample standard deviation of the top-1 over the folds of a complete trial; None without folds."""
    top1 = trial.user_attrs.get("top1", ())
    return float(np.std(top1, ddof=1)) if len(top1) > 1 else None


def note(trial: FrozenTrial) -> str:
    """Why a finished trial did not come to its end; "" if it did."""
    pruned = f"pruned after epoch {trial.last_step}" if trial.state is TrialState.PRUNED else ""
    return str(trial.user_attrs.get("failure", pruned))
