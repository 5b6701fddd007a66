"""Learning curves: training and validation of one run, or of several runs in one figure."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifar_flax.analysis.figures import BLUE, GREEN, GREY, ORANGE, new_figure, short

if TYPE_CHECKING:
    import pandas as pd

LONGEST_NAME = 100  # characters of a run's
METRICS = {"loss": "cross-entropy, nats", "top1": "top-1 accuracy"}
# Prefix of a column of `Run.metrics()`: colour alone, line style among several runs. "raw" are the weights of the last update
# of a run with EMA, whose "validation" columns are of the averaged weights.
SERIES = {"train": (BLUE, ":"), "validation": (ORANGE, "-"), "validation_raw": (GREEN, "--")}


def select_epochs(metrics: "pd.DataFrame") -> "pd.DataFrame":
    """Selects the epochs of `Run.metrics()`, nulls as NaN; empty before the first epoch has ended."""
    if "kind" not in metrics:
        return metrics
    epochs = metrics[metrics.kind == "epoch"]
    return epochs.assign(**{name: epochs[name].astype(float) for name in epochs if name != "kind"})


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
    if metric == "loss" and "train_cross_entropy" not in epochs:
        labels["train"] = "train, the loss that was optimised"
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
    steps = metrics[metrics.kind == "step"]
    figure = new_figure()
    axes = figure.add_subplot(xlabel="epoch", title="learning rate", ylim=(0, 1.05 * steps.learning_rate.max()))
    axes.plot(steps.step * epochs.epoch.iloc[-1] / epochs.step.iloc[-1], steps.learning_rate, color=BLUE, **_markers(steps))
    return figure


def overlaid_curves(runs: Sequence[tuple[str, "pd.DataFrame"]]) -> Figure:
    """Draws loss and accuracy of several runs, a colour each: validation solid, training dotted, raw weights dashed.

    Args:
      runs: (name, epochs from `select_epochs`) each.
    """
    figure = new_figure(2 * 4.6, 3.6 + 0.2 * len(runs))
    averaged = any("validation_raw_top1" in epochs for _, epochs in runs)
    styles = "validation solid, training dotted" + ", raw weights dashed" * averaged
    for axes, (metric, label) in zip(figure.subplots(1, 2), METRICS.items(), strict=True):
        axes.set(xlabel="epoch", title=f"{label}: {styles}")
        _scale(axes, metric)
        for i, (name, epochs) in enumerate(runs):
            color = f"C{i % 10}"
            for series, values in _series(epochs, metric):
                axes.plot(epochs.epoch, values, SERIES[series][1], color=color, **_markers(epochs))
            axes.plot([], [], color=color, label=short(name, LONGEST_NAME))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left")
    return figure


def _series(epochs: "pd.DataFrame", metric: str) -> Iterator[tuple[str, "pd.Series[float]"]]:
    """Yields (key of SERIES, values by epoch) of what a run recorded.

    The loss of training images is their cross-entropy, as that of validation images is; the loss that was optimised, with label
    smoothing and class weights, only where a run recorded no other.
    """
    columns = {series: f"{series}_{metric}" for series in SERIES}
    if metric == "loss" and "train_cross_entropy" in epochs:
        columns["train"] = "train_cross_entropy"
    return ((series, epochs[column]) for series, column in columns.items() if column in epochs)


def _markers(epochs: "pd.DataFrame") -> dict[str, Any]:
    """Marks the points of short curves: a single epoch would be invisible as a line."""
    return {"marker": "o", "markersize": 3} if len(epochs) < 25 else {}


def _scale(axes: Any, metric: str) -> None:
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if metric != "loss":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
