"""Results of a search: a ranked table, two pictures, and the command that trains the best trial again."""

import csv
import io
import shlex
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import PercentFormatter
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization.matplotlib import plot_parallel_coordinate

from cifar_flax.analysis.figures import BLUE, drawing_style, label_logarithmic, new_figure, percent
from cifar_flax.config.fields import missing_field, swap_specs
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import differences, validated
from cifar_flax.errors import RunFailed
from cifar_flax.files.atomic import write_bytes, write_text
from cifar_flax.files.lock import exclusive_lock
from cifar_flax.files.tables import format_table
from cifar_flax.runtime.command_line import typed
from cifar_flax.search.objective import Search, note, standard_deviation
from cifar_flax.search.space import COLUMNS, LAST_COLUMNS
from cifar_flax.search.study import Study, trial_index

PRINTED_TRIALS = 10  # in the printed table; the file has all
IMPORTANT_TRIALS = 20  # with fewer, the best tenth is one trial, which has nothing in common with others


def ranking(study: Study) -> list[FrozenTrial]:
    """The finished trials: the complete ones, best first, then those that were pruned, then those that failed."""
    states = ("complete", "pruned", "failed")
    return sorted(study.finished(), key=lambda t: (states.index(_state(t)), -(_top1(t) or 0.0), trial_index(t)))


def summarize(search: Search, study: Study, config_flag: str) -> str:
    """Writes the table and the pictures, and summarizes them for the terminal.

    Args:
      search: what was searched.
      study: all of whose trials are finished.
      config_flag: the config, "FILE.py" or "FILE.py:VARIANT".

    Raises:
      RunFailed: all trials failed.
    """
    path, best = write_table(search, study), ranking(study)[0]
    if _state(best) == "failed":
        raise RunFailed(f"all {study.trials} trials failed, trial {trial_index(best)} with: {note(best)} (all: {path})")
    lines = [table(study, list(search.space.domains)), f"all {study.trials} trials: {path}", *draw(search, study)]
    if _state(best) == "complete":
        lines += [f"best: {search.trial_path(best)}", f"train it again: {command(search, best, config_flag)}"]
    return "\n".join(lines)


def write_table(search: Search, study: Study) -> Path:
    """Writes `trials.csv`: a row each, with rank, state, mean and sd of the validation top-1, values, note and folder."""
    path, names = search.workdir / "trials.csv", list(search.space.domains)
    with exclusive_lock(search.workdir / ".lock"):
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, [*COLUMNS, *names, *LAST_COLUMNS], lineterminator="\n")
        writer.writeheader()
        for rank, trial in enumerate(ranking(study), 1):
            values = {name: str(value) if value is None else value for name, value in trial.params.items()}
            writer.writerow({**_row(rank, trial), **values, "note": note(trial), "run": search.trial_path(trial)})
        write_text(path, buffer.getvalue())
    return path


def table(study: Study, names: list[str]) -> str:
    """The best trials in columns, without the columns that are empty for all of them."""
    trials = ranking(study)
    rows = [{**_row(rank, trial), **trial.params} for rank, trial in enumerate(trials[:PRINTED_TRIALS], 1)]
    columns = [name for name in (*COLUMNS, *names) if any(row[name] != "" for row in rows)]
    lines = format_table([columns, *([_format_cell(name, row[name]) for name in columns] for row in rows)])
    return lines + (f"\n... and {len(trials) - PRINTED_TRIALS} more" if len(trials) > PRINTED_TRIALS else "")


def draw(search: Search, study: Study) -> list[str]:
    """Draws `parallel_coordinates.png` and, of enough trials, `importances.png`; returns a line on each."""
    complete = [trial for trial in study.finished() if trial.state is TrialState.COMPLETE]
    varied = sum(len({str(trial.params[name]) for trial in complete}) > 1 for name in search.space.domains)
    if len(complete) < 2 or not varied:
        return ["no pictures: they take two complete trials, with different values"]
    mpl.use("Agg")
    plots = {"parallel_coordinates": _parallel_coordinates}
    if len(complete) >= IMPORTANT_TRIALS:
        plots["importances"] = _importances
    paths = []
    with drawing_style(), warnings.catch_warnings(), exclusive_lock(search.workdir / ".lock"):
        warnings.simplefilter("ignore")  # Optuna's experimental-API and too-few-trials warnings
        for name, plot in plots.items():
            figure, buffer = plot(study.optuna, list(search.space.domains)), io.BytesIO()
            figure.savefig(buffer, format="png", dpi=192, bbox_inches="tight")
            mpl.pyplot.close(figure)
            paths.append(search.workdir / f"{name}.png")
            write_bytes(paths[-1], buffer.getvalue())
    few = f"no importances: they take {IMPORTANT_TRIALS} trials that came to an end, and {len(complete)} did"
    return [*(f"picture: {path}" for path in paths), *[few] * ("importances" not in plots)]


def command(search: Search, trial: FrozenTrial, config_flag: str) -> str:
    """The command that trains a trial's config again, without the folds of the search, in a run directory of its own.

    Args:
      search: what was searched.
      trial: a finished trial.
      config_flag: "FILE.py" or "FILE.py:VARIANT".
    """
    file, config = validated(load_config(config_flag)), search.config(trial.params)
    names = {"model.name": (file.model.name, config.model.name), "optim.name": (file.optim.name, config.optim.name)}
    swapped = {path: new for path, (old, new) in names.items() if old != new}
    swap_specs(file, swapped)  # as `train` does before it sets the other fields
    changed = swapped | {path.removeprefix("config."): new for path, (_, new) in differences(file, config).items()}
    if any(missing_field(one, path) for one in (file, config) for path in changed):
        config_file = f"{search.trial_path(trial)}{'/fold0' if search.folds else ''}/config.json"
        return f"no flags can say what {search.space.path} does to the config; it is {config_file}"
    flags = (f"--config.{path}={_flag_value(value)}" for path, value in changed.items())
    return " ".join([typed("train"), *map(shlex.quote, (f"--config={config_flag}", *flags))])


def _format_cell(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2%}" if name in ("top1", "sd") else f"{value:.4g}"
    return str(value)


def _flag_value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(tuple(value)) if isinstance(value, list) else str(value)


def _state(trial: FrozenTrial) -> str:
    return "failed" if "failure" in trial.user_attrs else trial.state.name.lower()


def _top1(trial: FrozenTrial) -> float | None:
    """The score of a complete trial, the best epoch of a pruned one, of which Optuna keeps the last; None if it failed."""
    if _state(trial) == "pruned":
        return max(trial.intermediate_values.values(), default=None)
    return trial.value if _state(trial) == "complete" else None


def _row(rank: int, trial: FrozenTrial) -> dict[str, Any]:
    values = (rank, trial_index(trial), _state(trial), _top1(trial), standard_deviation(trial))
    return {name: "" if value is None else value for name, value in zip(COLUMNS, values, strict=True)}


def _parallel_coordinates(study: optuna.Study, names: list[str]) -> Any:
    axes: Any = plot_parallel_coordinate(study, target_name="validation top-1")
    axes.set_title("Trials that came to their end")
    axes.set_xticks(range(len(names) + 1), ["validation top-1", *sorted(names)], rotation=330, ha="left")  # Optuna cuts them
    # In Optuna's colours the worst trials are white on white.
    axes.collections[0].set(cmap=LinearSegmentedColormap.from_list("grey to blue", ["#d8d8d8", BLUE]), alpha=0.9)
    bar, *others = axes.figure.axes[1:]
    for axis in (axes.yaxis, bar.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    for axis in (axes, *others):
        axis.grid(visible=False)
    for axis in others:
        axis.spines["right"].set_visible(True)  # the line of its parameter
        if axis.get_yscale() == "log":
            label_logarithmic(axis.yaxis)
        for label in axis.get_yticklabels():
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0})  # lines pass behind it
    axes.figure.set_size_inches(3.0 + 1.8 * len(names), 4.5)
    return axes.figure


def _importances(study: optuna.Study, names: list[str]) -> Any:
    rows = sorted(optuna.importance.get_param_importances(study).items(), key=lambda row: row[1])
    figure = new_figure(7.0, 0.9 + 0.28 * len(rows))
    axes = figure.add_subplot(xlim=(0, 1.1), xlabel="importance (PED-ANOVA)")
    axes.set_title("What the best tenth of the trials have in common", loc="left")
    axes.barh([name for name, _ in rows], [share for _, share in rows], color=BLUE)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", visible=False)
    for place, (_, share) in enumerate(rows):
        axes.text(share + 0.01, place, percent(share), va="center")
    return figure
