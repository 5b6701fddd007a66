"""Hyperparameters and final scores for the writers of a run that has ended."""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from absl import logging

from cifar_flax.config import Config
from cifar_flax.config.defaults import changes, format_value, is_part_of
from cifar_flax.config.serialize import flatten_config, read_config, to_dict
from cifar_flax.errors import UserError
from cifar_flax.training.checkpoints.restore import find_step
from cifar_flax.training.records import read_epochs
from cifar_flax.training.writers import Session, open_writers

SCORES = ("top1", "top5", "f1", "loss")

Pictures = Callable[[Path], Iterable[tuple[str, np.ndarray]]]


def write_summary(workdir: Path, pictures: Pictures = lambda workdir: ()) -> None:
    """Gives what `config.log.writers` names the hyperparameters of a run, the scores of its best checkpoint, and pictures.

    What cannot be read, because the data have changed, say, is a warning: the run is complete all the same.

    Args:
      workdir: of a run that has ended.
      pictures: maps it to names and pictures, uint8 [H, W, C], C 1 or 3; called where config.log.pictures asks for them.
    """
    try:
        _write_summary(workdir, pictures)
    except UserError as e:
        logging.warning("%s: trained, but its summary is not written: %s", workdir, e)


def _write_summary(workdir: Path, pictures: Pictures) -> None:
    config = read_config(workdir / "config.json")
    best, last = find_step(workdir, "best"), find_step(workdir, "latest")
    writers = open_writers(Session(workdir, config, last, last, finished=True))
    with contextlib.ExitStack() as stack:
        for writer in writers:
            stack.callback(writer.close)
        for writer in writers:
            writer.hyperparameters(best, hyperparameters(config), _scores(workdir, best))
        if writers and config.log.pictures:
            for name, picture in pictures(workdir):
                for writer in writers:
                    writer.picture(best, name, picture)


def hyperparameters(config: Config) -> dict[str, str | bool | float]:
    """Selects the fields that differ from their defaults, those of each block or layer apart, and the learning rate.

    Returns:
      {"optim.clip_norm": 2.0}: numbers and booleans as they are, all else as text.
    """
    changed = [*(change.path for change in changes(config)), "optim.learning_rate"]
    leaves = ((path.removeprefix("config."), value) for path, value in flatten_config(to_dict(config)))
    values = {path: value for path, value in leaves if is_part_of(path, changed)}
    return {
        path: value if isinstance(value, bool | int | float) else format_value(value) for path, value in sorted(values.items())
    }


def _scores(workdir: Path, step: int) -> dict[str, float]:
    """The validation scores of the epoch that ended with a checkpoint, without those that are null in metrics.jsonl."""
    epochs = [record for record in read_epochs(workdir) if record["step"] == step]
    epoch = epochs[-1] if epochs else {}
    names = [*SCORES, *(f"raw_{name}" for name in SCORES)]  # of a run with EMA, "raw" are the weights of the last update
    scores = {f"best/{name}": epoch.get(f"validation_{name}") for name in names}
    return {name: score for name, score in scores.items() if score is not None}
