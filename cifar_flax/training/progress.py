"""Progress of a run: epochs done, and, where validation stops improving, the fall of the learning rate and early stopping."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from flax.training.early_stopping import EarlyStopping

from cifar_flax.config import Config, EarlyStoppingConfig, Monitor, PlateauConfig
from cifar_flax.training.chunks import total_epochs

T = TypeVar("T")


@dataclass(frozen=True)
class PlateauState:
    """Memory of ReduceLROnPlateau from epoch to epoch.

    Attributes:
      best: the best score so far, as a loss: lower is better; inf before the first.
      wait: epochs since then, or since the rate last fell, that count.
      cooldown: epochs ahead of which none counts.
      scale: factor on top of the scheduled learning rate.
    """

    best: float = math.inf
    wait: int = 0
    cooldown: int = 0
    scale: float = 1.0


def reduce_on_plateau(state: PlateauState, config: PlateauConfig, peak: float, scores: Mapping[str, float]) -> PlateauState:
    """The state after an epoch: Keras' ReduceLROnPlateau, where optax' own counts updates instead of epochs.

    Args:
      state: before.
      config: when the rate falls and how far.
      peak: the schedule's highest rate; `min_learning_rate` is the least that `peak * scale` becomes.
      scores: of validation, `config.monitor` among them.
    """
    best, wait, cooldown, scale = state.best, state.wait, state.cooldown, state.scale
    if cooldown:
        cooldown, wait = cooldown - 1, 0
    loss, floor = _as_loss(scores, config.monitor), float(np.float32(config.min_learning_rate / peak))
    if np.float32(loss + config.min_delta) < np.float32(best):  # Keras' rate is a float32; a NaN is never better
        best, wait = loss, 0
    elif not cooldown:
        wait += 1
        if wait >= config.patience and scale > floor:
            scale, wait, cooldown = max(float(np.float32(scale * config.factor)), floor), 0, config.cooldown
    return PlateauState(best, wait, cooldown, scale)


def count_epoch(state: EarlyStopping, config: EarlyStoppingConfig, scores: Mapping[str, float]) -> EarlyStopping:
    """The state after an epoch: flax' EarlyStopping, which a score that is not finite never improves, as in Keras."""
    loss = _as_loss(scores, config.monitor)
    if math.isfinite(loss):
        return state.update(loss)
    stop = state.should_stop or state.patience_count >= state.patience
    return dataclasses.replace(state, patience_count=state.patience_count + 1, should_stop=stop)


@dataclass(frozen=True)
class Progress:
    """Progress of a run, saved beside its arrays.

    Attributes:
      epochs_done: epochs that are validated and recorded.
      plateau: what has lowered the learning rate so far; None where it only follows its schedule.
      early_stopping: None where training takes all its epochs.
    """

    epochs_done: int = 0
    plateau: PlateauState | None = None
    early_stopping: EarlyStopping | None = None

    @classmethod
    def start(cls, config: Config) -> "Progress":
        """The progress of a run that has not begun."""
        stop = config.early_stopping
        return cls(
            plateau=PlateauState() if config.plateau.patience else None,
            # flax counts the epochs after the first without improvement, Keras and `config.early_stopping` that one too.
            early_stopping=EarlyStopping(min_delta=stop.min_delta, patience=stop.patience - 1) if stop.patience else None,
        )

    def end_epoch(self, config: Config, scores: Mapping[str, float]) -> "Progress":
        """The progress after one more epoch with these validation scores, which are empty where nothing is validated."""
        plateau, stopping = self.plateau, self.early_stopping
        if plateau is not None:
            plateau = reduce_on_plateau(plateau, config.plateau, config.optim.learning_rate, scores)
        if stopping is not None:
            stopping = count_epoch(stopping, config.early_stopping, scores)
        return Progress(self.epochs_done + 1, plateau, stopping)

    def done(self, config: Config) -> bool:
        """Whether nothing is left to train."""
        return self.epochs_done >= total_epochs(config) or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether early stopping has ended the run."""
        return self.early_stopping is not None and self.early_stopping.should_stop

    @property
    def learning_rate_scale(self) -> float:
        """Factor on top of the scheduled learning rate."""
        return 1.0 if self.plateau is None else self.plateau.scale

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "epochs_done": self.epochs_done,
            "plateau": None if self.plateau is None else dataclasses.asdict(self.plateau),
            "early_stopping": None if self.early_stopping is None else dataclasses.asdict(self.early_stopping),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Progress":
        """The reverse of `to_json`.

        Raises:
          KeyError, TypeError: `values` is something else.
        """
        epochs, plateau, stopping = values["epochs_done"], values["plateau"], values["early_stopping"]
        if type(epochs) is not int or epochs < 0:
            raise TypeError(f"epochs_done {epochs!r}")
        return cls(epochs, _from_json(PlateauState(), plateau), _from_json(EarlyStopping(), stopping))


def _from_json(like: T, values: Any) -> T | None:
    """A dataclass of numbers, such as `like`, from its fields; None for None."""
    if values is None:
        return None
    names = {f.name for f in dataclasses.fields(like)}  # type: ignore[arg-type]
    if set(values) != names or not all(isinstance(value, int | float) for value in values.values()):
        raise TypeError(f"{type(like).__name__} {values!r}")
    return dataclasses.replace(like, **values)  # type: ignore[type-var]


def _as_loss(scores: Mapping[str, float], monitor: Monitor) -> float:
    """The monitored score, lower is better."""
    score = float(scores[monitor])
    return score if monitor is Monitor.LOSS else -score
