"""Runs on the same images: their accuracy with its uncertainty, their speed, and the config fields in which they differ."""

import errno
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from cifar_flax.analysis.compare.statistics import accuracy_interval, mcnemar, welch
from cifar_flax.analysis.predictions import Predictions, predict_split, predictions_path, read_predictions, save_predictions
from cifar_flax.config.recipe import BOOKKEEPING
from cifar_flax.config.serialize import differing_leaves, flatten_config, to_dict
from cifar_flax.data.splits import VALIDATION
from cifar_flax.errors import UserError
from cifar_flax.evaluation.scores import predicted_classes
from cifar_flax.run import Run

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunResult:
    """One run of a comparison.

    Attributes:
      name: name of its folder, or the path where two folders have the same name.
      config: {path: value} of every field but those of logging and checkpoints; some change weights by no more than rounding.
      step: step of the checkpoint.
      scores: from `Run.score`.
      correct: bool [N], which images the run classifies correctly.
      interval: bounds of the 95 % interval of the top-1 accuracy.
      metrics: from `Run.metrics`.
    """

    name: str
    config: dict[str, Any]
    step: int
    scores: dict[str, Any]
    correct: np.ndarray
    interval: tuple[float, float]
    metrics: "pd.DataFrame"

    @property
    def images_per_second(self) -> float | None:
        """Median over the recorded training steps; None where no step is recorded."""
        return float(self.metrics.images_per_second.median()) if "images_per_second" in self.metrics else None

    @property
    def seconds(self) -> float | None:
        """Training time so far; None where no step is recorded."""
        return float(self.metrics.elapsed.max()) if "elapsed" in self.metrics else None


@dataclass(frozen=True)
class SeedGroup:
    """Runs whose configs differ in the seed only.

    Attributes:
      members: indices of the runs.
      top1: their accuracies.
      p: p-value of Welch's test against the first group; None for that group, and where either has a single run.
    """

    members: list[int]
    top1: list[float]
    p: float | None

    @property
    def mean(self) -> float:
        """Mean top-1 accuracy over seeds."""
        return mean(self.top1)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for a single one."""
        return stdev(self.top1) if len(self.top1) > 1 else None


def load_results(
    workdirs: Sequence[str], split: str, which: str, predictions: Sequence[Predictions] | None = None
) -> list[RunResult]:
    """Opens runs and reads their predictions for a split; makes and saves those that are missing for the checkpoint.

    Args:
      workdirs: at least two run directories.
      split: "train", "validation" or "test".
      which: the checkpoint of each, as in `Run.network`.
      predictions: of each, where they are at hand: nothing is read, made or saved then.

    Raises:
      UserError: fewer than two runs, the same twice, runs on different images, or as `Run` raises.
    """
    if len({Path(path).resolve() for path in workdirs}) < max(2, len(workdirs)):
        raise UserError(f"{' '.join(workdirs)}: expected two run directories or more, all different")
    runs = [Run.open(path) for path in workdirs]
    for path, run in zip(workdirs, runs, strict=True):
        check_same_images(workdirs[0], runs[0], path, run, split)
    if predictions is None:
        predictions = [_predictions(run, split, which) for run in runs]
    for path, one in zip(workdirs, predictions, strict=True):
        if not np.array_equal(one.labels, predictions[0].labels):
            raise UserError(f"{path} and {workdirs[0]} were evaluated on different {split} images; evaluate both again")
    folders = [run.workdir.resolve().name for run in runs]
    names = folders if len(set(folders)) == len(folders) else [str(Path(path)) for path in workdirs]
    return [_result(*parts) for parts in zip(names, runs, predictions, strict=True)]


def config_differences(results: Sequence[RunResult]) -> dict[str, list[Any]]:
    """The config fields in which runs differ: {"optim.learning_rate": the value in each run}, None for no such field."""
    different = differing_leaves([result.config for result in results])
    # The entries of a list of blocks have paths of their own, but an empty list has none: it is a leaf, and says nothing new.
    return {
        path.removeprefix("config."): row for path, row in different.items() if any(value not in (None, []) for value in row)
    }


def group_by_config(results: Sequence[RunResult]) -> list[SeedGroup]:
    """Groups runs by their config without the seed, in the order of the first members."""
    members: dict[str, list[int]] = {}
    for i, result in enumerate(results):
        without_seed = {path: value for path, value in result.config.items() if path != "config.seed"}
        members.setdefault(json.dumps(without_seed, sort_keys=True), []).append(i)
    top1 = [[results[i].scores["top1"] for i in group] for group in members.values()]
    p_values = [None, *(welch(top1[0], other) for other in top1[1:])]
    return [SeedGroup(*parts) for parts in zip(members.values(), top1, p_values, strict=True)]


def one_group(results: Sequence[RunResult]) -> SeedGroup:
    """All runs as one group, whatever else than the seed their configs differ in."""
    return SeedGroup([*range(len(results))], [result.scores["top1"] for result in results], None)


def repeated_seeds(results: Sequence[RunResult], group: SeedGroup) -> list[int]:
    """The members of a group that share their seed with another member."""
    seeds = [results[i].config["config.seed"] for i in group.members]
    return [i for i, seed in zip(group.members, seeds, strict=True) if seeds.count(seed) > 1]


def paired_tests(results: Sequence[RunResult]) -> list[tuple[float, float] | None]:
    """Compares each run with the first on the same images: (difference in top-1, McNemar's p-value); None for the first."""
    first, *others = results
    differences = (float(other.correct.mean() - first.correct.mean()) for other in others)
    return [None, *zip(differences, (mcnemar(first.correct, other.correct) for other in others), strict=True)]


def check_same_images(first_path: str, first: Run, path: str, run: Run, split: str) -> None:
    """Checks that two runs, which messages call by their paths, are of one data set and have the same images in a split.

    Raises:
      UserError: they are not, and what would be compared are different tasks.
    """
    a, b = first.preprocessing, run.preprocessing
    if (a.class_names, a.image_shape, a.hashes) != (b.class_names, b.image_shape, b.hashes):
        names = f"{first_path} on {first.config.data.name}, {path} on {run.config.data.name}"
        raise UserError(f"these runs are on different data: {names}; compare runs on one set")
    if split == "test" and a.test_hashes and b.test_hashes and a.test_hashes != b.test_hashes:
        raise UserError(f"the test images changed between the trainings of {first_path} and {path}; compare runs on one set")
    if split != "test" and held_out(first) != held_out(run):
        raise UserError(f"{first_path} and {path} hold out different validation images; compare them with --split=test")


def held_out(run: Run) -> tuple[float | None, ...]:
    """Settings that decide which images are for validation; empty where those are a split of the data set."""
    data = run.config.data
    if data.folds is not None:
        return data.folds, data.fold, data.split_seed
    if not data.validation_fraction:
        return ()
    has_own = any(name.startswith(VALIDATION) for name in run.preprocessing.hashes)
    return (None,) if has_own else (data.validation_fraction, data.split_seed)


def _predictions(run: Run, split: str, which: str) -> Predictions:
    """Reads the predictions of a checkpoint without test-time augmentation, or makes them and saves them apart.

    The files of `evaluate` are left alone: the report and the scores beside its predictions belong to those.
    """
    step = run.step(which)
    for path in (predictions_path(run.report_folder, split), _comparison_path(run, split, step)):
        saved = read_predictions(path)
        asked_for = split, step, "none", True, run.preprocessing.num_classes
        if saved and (saved.split, saved.step, saved.tta, saved.ema, saved.logits.shape[1]) == asked_for:
            return saved
    logging.warning("evaluating %s on %s", run.workdir, split)
    predictions, _ = predict_split(run, split, which)
    try:
        save_predictions(_comparison_path(run, split, predictions.step), predictions)
    except OSError as e:
        if e.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        logging.info("%s: its predictions are not kept (%s)", run.workdir, e.strerror)  # it may only be read
    return predictions


def _comparison_path(run: Run, split: str, step: int) -> Path:
    return run.report_folder / f"compare_{split}_{step}.npz"


def _result(name: str, run: Run, predictions: Predictions) -> RunResult:
    config = {path: value for path, value in flatten_config(to_dict(run.config)) if not path.startswith(BOOKKEEPING)}
    correct = predicted_classes(predictions.logits) == predictions.labels
    scores = run.score(predictions.logits, predictions.labels, predictions.step)
    return RunResult(name, config, predictions.step, scores, correct, accuracy_interval(correct), run.metrics())
