"""Learning curves: of one run, training against validation, or of several runs over each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifar_flax.analysis.figures import BLUE, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    import pandas as pd

METRICS = {"loss": "loss, nats", "top1": "top-1 accuracy"}


def epochs_of(metrics: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of `Run.metrics()` that are epochs, with numbers for nulls; empty before the first epoch has ended."""
    if "kind" not in metrics:
        return metrics
    epochs = metrics[metrics.kind == "epoch"]
    return epochs.assign(**{name: epochs[name].astype(float) for name in epochs if name != "kind"})


def learning_curve(epochs: "pd.DataFrame", metric: str, step: int) -> Figure:
    """Training against validation.

    Args:
      epochs: from `epochs_of`, at least one.
      metric: one of `METRICS`; validation is left out where the run had none.
      step: of the checkpoint that the report is about, which is marked.
    """
    figure = new_figure()
    axes = figure.add_subplot(xlabel="epoch", title=METRICS[metric])
    for kind, color in (("train", BLUE), ("validation", ORANGE)):
        if f"{kind}_{metric}" in epochs:
            axes.plot(epochs.epoch, epochs[f"{kind}_{metric}"], color=color, label=kind, **_markers(epochs))
    for epoch in epochs.epoch[epochs.step == step]:
        axes.axvline(epoch, color=GREY, linestyle=":", label="this report's checkpoint")
    _scale(axes, metric)
    axes.legend()
    return figure


def overlaid_curves(runs: Sequence[tuple[str, "pd.DataFrame"]]) -> Figure:
    """Loss and accuracy of several runs: (name, epochs from `epochs_of`) each; validation solid, training dotted."""
    figure = new_figure(2 * 4.6, 3.6 + 0.2 * len(runs))
    for axes, (metric, label) in zip(figure.subplots(1, 2), METRICS.items(), strict=True):
        axes.set(xlabel="epoch", title=f"{label}: validation solid, training dotted")
        _scale(axes, metric)
        for i, (name, epochs) in enumerate(runs):
            for kind, line in (("train", ":"), ("validation", "-")):
                if f"{kind}_{metric}" in epochs:
                    axes.plot(epochs.epoch, epochs[f"{kind}_{metric}"], line, color=f"C{i % 10}", **_markers(epochs))
            axes.plot([], [], color=f"C{i % 10}", label=name)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left")
    return figure


def _markers(epochs: "pd.DataFrame") -> dict[str, Any]:
    """Points on a curve of few epochs: one of a single epoch has nothing else to show."""
    return {"marker": "o", "markersize": 3} if len(epochs) < 25 else {}


def _scale(axes: Any, metric: str) -> None:
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if metric != "loss":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
