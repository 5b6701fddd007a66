"""Writers of metrics, `config.log.writers`, besides metrics.jsonl, which is the run's own record."""

import contextlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from cifar_flax.config import Config
from cifar_flax.config.registry import WRITERS
from cifar_flax.errors import UserError
from cifar_flax.files.installation import install_command

FIELD = "config.log.writers"
TENSORBOARD = "tensorboard"
RECORDS = "jsonl"  # a name for metrics.jsonl, which is written without it too
OURS = (TENSORBOARD, RECORDS)  # which write into the run directory
PACKAGES = ("wandb", "mlflow")  # which are not installed with this one
TRIALS = "trials"  # folder of a search that holds its runs


class Writer(Protocol):
    """Takes the metrics of a run. Steps are numbers of updates.

    One that has something to resume by calls it `id`, a str attribute: the next process of the run finds it in `Session.id`. It
    is read once, after the writer has been made. All four methods are looked for then.
    One that would lose what it was given if it were killed before `close` has an attribute `buffered` that is True: it is then
    given that again.
    """

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each of the named curves."""

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, C], C 1 or 3."""

    def hyperparameters(self, step: int, values: dict[str, Any], scores: dict[str, float]) -> None:
        """Adds what a finished run was trained with, where it differs from the defaults, and what came of it.

        Args:
          step: of the best checkpoint.
          values: strings, booleans and numbers: {"optim.clip_norm": 2.0}.
          scores: {"best/top1": 0.7}.
        """

    def close(self) -> None:
        """Returns once everything is written."""


@dataclass(frozen=True)
class Session:
    """The part of a run that one process writes.

    Attributes:
      workdir: the run directory.
      config: of the run.
      step: updates made when it begins.
      epoch_step: updates that had been made when the last recorded epoch ended.
      finished: the training is over, and its summaries are added.
      id: what the writer of an earlier process of the run called itself; "" where there was none.
    """

    workdir: Path
    config: Config
    step: int
    epoch_step: int
    finished: bool = False
    id: str = ""

    @property
    def group(self) -> str:
        """The name of the folder of runs that belong together: the seeds of a config, the trials of a search, or all runs."""
        return self._folder.name or "cifar_flax"

    @property
    def name(self) -> str:
        """The name of the run within its group: "quickstart", "seed0", "0003/fold1"."""
        return self.workdir.absolute().relative_to(self._folder).as_posix().removeprefix(f"{TRIALS}/")

    @property
    def _folder(self) -> Path:
        above = list(self.workdir.absolute().parents)
        return next((folder.parent for folder in above[:2] if folder.name == TRIALS), above[0])


OpenWriter = Callable[[Session], Writer]


@WRITERS.register(TENSORBOARD)
def _tensorboard(session: Session) -> Writer:
    from cifar_flax.training.writers import tensorboard

    training = tensorboard.recorded_by(session.step, session.epoch_step)
    keep = tensorboard.recorded_while_training if session.finished else training
    return tensorboard.TensorBoard(session.workdir, keep)


@WRITERS.register(RECORDS)
class _Recorded(Writer):
    """Adds nothing: `training.records` writes metrics.jsonl, whether it is named or not."""

    def __init__(self, session: Session) -> None:
        pass


@WRITERS.register("wandb")
def _wandb(session: Session) -> Writer:
    from cifar_flax.training.writers.wandb import WandB

    return WandB(session)


@WRITERS.register("mlflow")
def _mlflow(session: Session) -> Writer:
    from cifar_flax.training.writers.mlflow import MLflow

    return MLflow(session)


def check_writers(names: tuple[str, ...]) -> None:
    """Looks whether the named writers are there, which only a training needs: a run is opened without its trackers.

    Raises:
      UserError: a package is missing, or a user's own writer cannot be imported.
    """
    for i, name in enumerate(names):
        WRITERS.resolve(name, f"{FIELD}[{i}]")
        if name in PACKAGES and importlib.util.find_spec(name) is None:
            raise UserError(f"{FIELD}: {name} is not installed; type  {install_command(name)}")


def open_writers(session: Session) -> list[Writer]:
    """Opens the writers that the config names.

    TensorBoard's files are the run's own, and written in the calling thread: a full disk ends the run. Whatever else may be far
    away: a thread of its own writes it, and it neither slows nor ends a training that has begun.

    Raises:
      UserError: one cannot start. Where the session is of a finished run, that is a warning.
    """
    from cifar_flax.training.writers.sending import Sender

    with contextlib.ExitStack() as stack:
        writers: list[Writer] = []
        for i, name in enumerate(session.config.log.writers):
            open_writer = WRITERS.resolve(name, f"{FIELD}[{i}]")
            try:
                writer = open_writer(session) if name in OURS else Sender(name, open_writer, session)
            except UserError as e:
                if not session.finished:
                    raise
                logging.warning("%s; it has no summary of the run", e)
                continue
            writers.append(writer)
            stack.callback(writer.close)
        stack.pop_all()
    return writers
