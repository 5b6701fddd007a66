"""Runs side by side, on the same images: accuracy and how sure it is, speed, and where their configs differ."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from cifar_flax.analysis.compare.statistics import Interval, accuracy_interval, mcnemar, welch
from cifar_flax.analysis.config_diff import differing_fields
from cifar_flax.analysis.report.predictions import (
    Predictions,
    predict_split,
    predictions_file,
    read_predictions,
    save_predictions,
)
from cifar_flax.config.serialize import flatten_config, to_dict
from cifar_flax.errors import UserError
from cifar_flax.evaluation.scores import predicted_classes
from cifar_flax.run import Run

if TYPE_CHECKING:
    import pandas as pd

WITHOUT_EFFECT = ("config.log.", "config.checkpoint.")  # on what is learnt


@dataclass(frozen=True)
class Entry:
    """One run of a comparison.

    Attributes:
      name: of its folder, or the path where two folders have one name.
      config: {path: value} of every field that bears on what is learnt.
      step: of the checkpoint.
      scores: by `Run.score`.
      right: bool [N], which images it gets right.
      interval: of its top-1 accuracy, 95 %.
      metrics: `Run.metrics()`.
    """

    name: str
    config: dict[str, Any]
    step: int
    scores: dict[str, Any]
    right: np.ndarray
    interval: Interval
    metrics: "pd.DataFrame"

    @property
    def images_per_second(self) -> float | None:
        """Median over the recorded training steps."""
        known = "images_per_second" in self.metrics
        return float(self.metrics.images_per_second.median()) if known else None

    @property
    def seconds(self) -> float | None:
        """Training time so far."""
        return float(self.metrics.elapsed.max()) if "elapsed" in self.metrics else None


@dataclass(frozen=True)
class Group:
    """Runs of one config that differ in the seed only.

    Attributes:
      members: indices of the entries.
      top1: the accuracy of each.
      p: of Welch's test against the first group; None for that one, and where either has a single run.
    """

    members: list[int]
    top1: list[float]
    p: float | None

    @property
    def mean(self) -> float:
        """Of the accuracies."""
        return mean(self.top1)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for one."""
        return stdev(self.top1) if len(self.top1) > 1 else None


def load_entries(workdirs: Sequence[str], split: str, which: str) -> list[Entry]:
    """Opens the runs, and reads their predictions for a split; makes and saves them where there are none of that checkpoint.

    Args:
      workdirs: two run directories or more.
      split: "train", "validation" or "test".
      which: the checkpoint of each, as in `Run.variables`.

    Raises:
      UserError: fewer than two, the same twice, runs on different images, or what `Run` raises.
    """
    if len({Path(path).resolve() for path in workdirs}) < max(2, len(workdirs)):
        raise UserError(f"{' '.join(workdirs)}: expected two run directories or more, all different")
    runs = [Run.open(path) for path in workdirs]
    for path, run in zip(workdirs, runs, strict=True):
        _check_same_images(workdirs[0], runs[0], path, run, split)
    found = [_predictions(run, split, which) for run in runs]
    for path, predictions in zip(workdirs, found, strict=True):
        if not np.array_equal(predictions.labels, found[0].labels):
            raise UserError(f"{path} and {workdirs[0]} were evaluated on different {split} images; evaluate both again")
    names = [run.workdir.resolve().name for run in runs]
    shown = names if len(set(names)) == len(names) else [str(Path(path)) for path in workdirs]
    return [_entry(*parts) for parts in zip(shown, runs, found, strict=True)]


def fields_of(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """The config fields in which the runs differ: {"optim.learning_rate": a value an entry}, None for no such field."""
    paths = dict.fromkeys(path for entry in entries for path in entry.config)
    return differing_fields({path: [entry.config.get(path) for entry in entries] for path in paths})


def groups_of(entries: Sequence[Entry]) -> list[Group]:
    """The entries by config without seed, in the order of their first members."""
    members: dict[str, list[int]] = {}
    for i, entry in enumerate(entries):
        rest = {path: value for path, value in entry.config.items() if path != "config.seed"}
        members.setdefault(json.dumps(rest, sort_keys=True), []).append(i)
    top1 = [[entries[i].scores["top1"] for i in group] for group in members.values()]
    tests = [None, *(welch(top1[0], one) for one in top1[1:])]
    return [Group(*parts) for parts in zip(members.values(), top1, tests, strict=True)]


def repeated_seeds(entries: Sequence[Entry], group: Group) -> list[int]:
    """The members of a group whose seed another member has too."""
    seeds = [entries[i].config["config.seed"] for i in group.members]
    return [i for i, seed in zip(group.members, seeds, strict=True) if seeds.count(seed) > 1]


def against_first(entries: Sequence[Entry]) -> list[tuple[float, float] | None]:
    """Difference in top-1 to the first entry, and McNemar's p-value of it; None for the first."""
    first = entries[0]
    rest = ((float(entry.right.mean() - first.right.mean()), mcnemar(first.right, entry.right)) for entry in entries[1:])
    return [None, *rest]


def _predictions(run: Run, split: str, which: str) -> Predictions:
    """The saved ones of the checkpoint asked for, without test-time augmentation; where there are none, new ones, saved apart.

    What `evaluate` wrote stays as it is: beside its predictions lie a report and scores that are of them.
    """
    step = run.step(which)
    for path in (predictions_file(run, split), _own_file(run, split, step)):
        saved = read_predictions(path)
        if saved is not None and (saved.step, saved.tta) == (step, "none"):
            return saved
    logging.warning("evaluating %s on %s", run.workdir, split)
    found, _ = predict_split(run, split, which)
    save_predictions(_own_file(run, split, found.step), found)
    return found


def _own_file(run: Run, split: str, step: int) -> Path:
    return run.workdir / "report" / f"compare_{split}_{step}.npz"


def _check_same_images(first_path: str, first: Run, path: str, run: Run, split: str) -> None:
    a, b = first.preprocessing, run.preprocessing
    if (a.class_names, a.image_shape, a.hashes) != (b.class_names, b.image_shape, b.hashes):
        names = f"{first_path} on {first.config.data.name}, {path} on {run.config.data.name}"
        raise UserError(f"these runs are on different data: {names}; compare runs on one set")
    held_out = [(run.config.data.validation_fraction, run.config.data.folds, run.config.data.fold) for run in (first, run)]
    seeds = [run.config.data.split_seed for run in (first, run)]
    if split != "test" and (held_out[0] != held_out[1] or seeds[0] != seeds[1]):
        raise UserError(f"{first_path} and {path} hold out different validation images; compare them with --split=test")


def _entry(name: str, run: Run, found: Predictions) -> Entry:
    config = {path: value for path, value in flatten_config(to_dict(run.config)) if not path.startswith(WITHOUT_EFFECT)}
    right = predicted_classes(found.logits) == found.labels
    scores = run.score(found.logits, found.labels)
    return Entry(name, config, found.step, scores, right, accuracy_interval(right), run.metrics())
