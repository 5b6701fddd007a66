"""Learning curves: training and validation of one run, or of several runs in one figure."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from cifar_flax.analysis.figures import BLUE, CARD, GREEN, GREY, ORANGE, new_figure, short

if TYPE_CHECKING:
    import pandas as pd

LONGEST_NAME = 100  # characters of a run's
LINE = 40  # characters of a run's name on a line below a chart
CHART, LEGEND_LINE = 3.1, 0.2  # inches of height: of a chart, and of a line of text below it
METRICS = {"loss": "cross-entropy, nats", "top1": "top-1 accuracy"}
# Prefix of a column of `Run.metrics()`: colour alone, line style among several runs. "raw" are the weights of the last update
# of a run with EMA, whose "validation" columns are of the averaged weights.
SERIES: dict[str, tuple[str, Literal["-", ":", "--"]]] = {
    "train": (BLUE, ":"),
    "validation": (ORANGE, "-"),
    "validation_raw": (GREEN, "--"),
}
STYLES = {"validation": "validation", "train": "training", "validation_raw": "validation, raw weights"}  # among several runs


def select_epochs(metrics: "pd.DataFrame") -> "pd.DataFrame":
    """Selects the epochs of `Run.metrics()`, nulls as NaN; empty before the first epoch has ended."""
    if "kind" not in metrics:
        return metrics
    epochs = metrics[metrics.kind == "epoch"]
    return epochs.astype({name: float for name in epochs if name != "kind"})


def learning_curve(epochs: "pd.DataFrame", metric: str, step: int) -> Figure:
    """Draws training against validation by epoch, both with averaged and with raw weights where the run has an EMA.

    Args:
      epochs: from `select_epochs`, at least one.
      metric: a key of `METRICS`; validation is left out where the run had none.
      step: step of the checkpoint that the report is about, which is marked.
    """
    figure = new_figure()
    axes = figure.add_subplot(xlabel="epoch", title=METRICS[metric])
    averaged = f"validation_raw_{metric}" in epochs
    labels = {"validation": "validation, EMA weights", "validation_raw": "validation, raw weights"} if averaged else {}
    for series, values in _series(epochs, metric):
        axes.plot(epochs.epoch, values, color=SERIES[series][0], label=labels.get(series, series), **_markers(epochs))
    for epoch in epochs.epoch[epochs.step == step]:
        axes.axvline(epoch, color=GREY, linestyle=":", label="this report's checkpoint")
    _scale(axes, metric)
    axes.legend()
    return figure


def learning_rate_curve(metrics: "pd.DataFrame") -> Figure | None:
    """Draws the learning rate by epoch, from the recorded steps of `Run.metrics()`; None where there are none."""
    if "learning_rate" not in metrics or not len(epochs := select_epochs(metrics)):
        return None
    steps = metrics[(metrics.kind == "step") & metrics.learning_rate.notna()]
    if not len(steps):
        return None
    figure = new_figure()
    axes = figure.add_subplot(xlabel="epoch", title="learning rate", ylim=(0, 1.05 * steps.learning_rate.max()))
    axes.plot(steps.step * epochs.epoch.iloc[0] / epochs.step.iloc[0], steps.learning_rate, color=BLUE, **_markers(steps))
    return figure


def overlaid_curves(runs: Sequence[tuple[str, "pd.DataFrame"]], metrics: Sequence[str] = tuple(METRICS)) -> Figure:
    """Draws several runs, a colour each: validation solid, training dotted, raw weights dashed.

    Args:
      runs: (name, epochs from `select_epochs`) each.
      metrics: keys of `METRICS`, a chart each, side by side.
    """
    names = ["\n".join(textwrap.wrap(short(name, LONGEST_NAME), LINE * len(metrics))) for name, _ in runs]
    drawn = {series for _, epochs in runs for series, _ in _series(epochs, metrics[0])}
    styles = [series for series in STYLES if series in drawn]
    spectrum = mpl.colormaps["turbo"](np.linspace(0.05, 0.95, len(runs)))
    colors = [f"C{i}" if len(runs) <= 10 else tuple(color) for i, color in enumerate(spectrum)]
    lines = len(styles) + sum(1 + name.count("\n") for name in names)
    figure = new_figure(CARD * len(metrics), CHART + LEGEND_LINE * lines)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        axes.set(xlabel="epoch", title=METRICS[metric])
        _scale(axes, metric)
        for i, (_, epochs) in enumerate(runs):
            for series, values in _series(epochs, metric):
                axes.plot(epochs.epoch, values, SERIES[series][1], color=colors[i], **_markers(epochs))
    named = [Line2D([], [], color=color, label=name) for color, name in zip(colors, names, strict=True)]
    grey = [Line2D([], [], color=GREY, linestyle=SERIES[series][1], label=STYLES[series]) for series in styles]
    figure.legend(handles=named + grey, loc="outside lower left")
    return figure


def _series(epochs: "pd.DataFrame", metric: str) -> Iterator[tuple[str, "pd.Series[float]"]]:
    """Yields (key of SERIES, values by epoch) of what a run recorded.

    The loss of training images is their cross-entropy, as that of validation images is, and not the one that was optimised.
    """
    columns = {series: f"{series}_{metric}" for series in SERIES}
    if metric == "loss":
        columns["train"] = "train_cross_entropy"
    return ((series, epochs[column]) for series, column in columns.items() if column in epochs)


def _markers(epochs: "pd.DataFrame") -> dict[str, Any]:
    """Marks the points of short curves: a single epoch would be invisible as a line."""
    return {"marker": "o", "markersize": 3} if len(epochs) < 25 else {}


def _scale(axes: Any, metric: str) -> None:
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if metric != "loss":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
