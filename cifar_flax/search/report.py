"""What a search found: a ranked table, two pictures, and the command that trains the best trial again."""

import csv
import fcntl
import os
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization.matplotlib import plot_parallel_coordinate, plot_param_importances

from cifar_flax.config.serialize import differences, validated
from cifar_flax.errors import RunFailed
from cifar_flax.runtime.app import load_config, missing_field
from cifar_flax.search.loop import Search
from cifar_flax.search.study import Study, slot_of

SHOWN = 10  # trials in the printed table; the file has all of them
COLUMNS = ("rank", "trial", "state", "top1", "sd")


def ranking(study: Study) -> list[FrozenTrial]:
    """The finished trials, the best first: those that came to their end, then the pruned ones, then those that failed."""
    states = ("complete", "pruned", "failed")
    return sorted(study.finished(), key=lambda t: (states.index(_state(t)), -(_top1(t) or 0.0), slot_of(t)))


def conclude(search: Search, study: Study, config_flag: str) -> str:
    """Writes the table and the pictures, and says what was found.

    Args:
      search: what was searched.
      study: all of whose trials are finished.
      config_flag: the config, "FILE.py" or "FILE.py:VARIANT".

    Raises:
      RunFailed: all trials failed.
    """
    path, best = write_table(search, study), ranking(study)[0]
    if _state(best) == "failed":
        raise RunFailed(
            f"all {study.trials} trials failed, trial {slot_of(best)} with: {best.user_attrs['note']} (all: {path})"
        )
    lines = [table(study, list(search.space.domains)), f"all {study.trials} trials: {path}", *draw(search, study)]
    if _state(best) == "complete":
        lines += [f"best: {search.found(best)}", f"train it again: {command(search, best, config_flag)}"]
    return "\n".join(lines)


def write_table(search: Search, study: Study) -> Path:
    """Writes `trials.csv`: a row each, with rank, state, mean and sd of the validation top-1, values, note and folder."""
    path, names = search.workdir / "trials.csv", list(search.space.domains)
    with _alone(search.workdir):
        beside = path.with_suffix(".tmp")
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*COLUMNS, *names, "note", "run"])
            writer.writeheader()
            for rank, trial in enumerate(ranking(study), 1):
                note = trial.user_attrs.get("note", "")
                writer.writerow({**_row(rank, trial), **trial.params, "note": note, "run": search.found(trial)})
        os.replace(beside, path)
    return path


def table(study: Study, names: list[str]) -> str:
    """The best trials, in columns."""
    trials = ranking(study)
    columns = {name: [name] for name in (*COLUMNS, *names)}
    for rank, trial in enumerate(trials[:SHOWN], 1):
        for name, value in {**_row(rank, trial), **trial.params}.items():
            shown = f"{value:.2%}" if name in ("top1", "sd") and value != "" else _short(value)
            columns[name].append(shown)
    filled = [column for column in columns.values() if any(column[1:])]
    lines = (
        "  ".join(cell.ljust(max(map(len, column))) for cell, column in zip(row, filled, strict=True))
        for row in zip(*filled, strict=True)
    )
    more = [f"... and {len(trials) - SHOWN} more"] if len(trials) > SHOWN else []
    return "\n".join([*(line.rstrip() for line in lines), *more])


def draw(search: Search, study: Study) -> list[str]:
    """Draws `parallel_coordinates.png` and `importances.png`; returns a line on each."""
    complete = [trial for trial in study.finished() if trial.state is TrialState.COMPLETE]
    varied = sum(len({str(trial.params[name]) for trial in complete}) > 1 for name in search.space.domains)
    if len(complete) < 2 or not varied:
        return [f"no pictures: {len(complete)} trial{'s'[: len(complete) != 1]} came to an end, in {varied} values different"]
    mpl.use("Agg")
    paths = []
    with mpl.style.context("default"), warnings.catch_warnings(), _alone(search.workdir):  # Optuna changes the style for good
        warnings.simplefilter("ignore")  # of pictures that are experimental, and of few trials, which one sees
        for name, plot in (("parallel_coordinates", _parallel_coordinates), ("importances", _importances)):
            paths.append(search.workdir / f"{name}.png")
            figure = plot(study.optuna, list(search.space.domains))
            figure.savefig(paths[-1], dpi=150, bbox_inches="tight")
            mpl.pyplot.close(figure)
    return [f"picture: {path}" for path in paths]


def command(search: Search, trial: FrozenTrial, config_flag: str) -> str:
    """The command that trains a trial's config again, without folds of the search's making, in a run directory of its own.

    Args:
      search: whose trial it is.
      trial: a finished one.
      config_flag: "FILE.py" or "FILE.py:VARIANT".
    """
    file, config = validated(load_config(config_flag)), search.config(trial.params)
    changed = {path.removeprefix("config."): new for path, (_, new) in differences(file, config).items()}
    if any(missing_field(one, path) for one in (file, config) for path in changed):
        config_file = f"{search.found(trial)}{'/fold0' if search.folds else ''}/config.json"
        return f"no flags can say what {search.space.path} does to the config; it is {config_file}"
    flags = (f"--config.{path}={_flag_value(value)}" for path, value in changed.items())
    return " ".join(["python launch/train.py", *map(shlex.quote, (f"--config={config_flag}", *flags))])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flag_value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(tuple(value)) if isinstance(value, list) else str(value)


def _state(trial: FrozenTrial) -> str:
    return "failed" if trial.user_attrs.get("failed") else trial.state.name.lower()


def _top1(trial: FrozenTrial) -> float | None:
    """Its value, or the best epoch of one that was pruned, of which Optuna keeps the last; None if it failed."""
    if _state(trial) == "pruned":
        return max(trial.intermediate_values.values(), default=None)
    return trial.value if _state(trial) == "complete" else None


def _row(rank: int, trial: FrozenTrial) -> dict[str, Any]:
    top1 = _top1(trial)
    shown = (rank, slot_of(trial), _state(trial), "" if top1 is None else top1, trial.user_attrs.get("sd", ""))
    return dict(zip(COLUMNS, shown, strict=True))


@contextmanager
def _alone(workdir: Path) -> Iterator[None]:
    """A context in which no other process of the search writes its report there."""
    with (workdir / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parallel_coordinates(study: optuna.Study, names: list[str]) -> Any:
    axes: Any = plot_parallel_coordinate(study, target_name="validation top-1")
    axes.set_title("Trials that came to their end")
    axes.set_xticks(range(len(names) + 1), ["validation top-1", *sorted(names)], rotation=330, ha="left")  # Optuna cuts them
    axes.collections[0].set(cmap="viridis_r", alpha=0.8)  # in Optuna's colours the worst trials are white on white
    for axis in axes.figure.axes[1:]:
        for label in axis.get_yticklabels():
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0})  # lines pass behind it
    axes.figure.set_size_inches(3.0 + 1.8 * len(names), 4.5)
    return axes.figure


def _importances(study: optuna.Study, names: list[str]) -> Any:
    axes: Any = plot_param_importances(study, target_name="validation top-1")
    axes.set_title("What the best tenth of the trials have in common", loc="left")
    axes.set(xlabel="importance (PED-ANOVA)", ylabel="")
    axes.get_legend().remove()
    axes.figure.set_size_inches(7.0, 1.2 + 0.5 * len(names))
    return axes.figure
