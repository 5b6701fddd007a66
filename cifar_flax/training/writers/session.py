"""The writer of metrics as a run knows it, and the run as its writers know it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cifar_flax.config import Config

FIELD = "config.log.writers"
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
