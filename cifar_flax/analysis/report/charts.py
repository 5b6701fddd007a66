"""Charts of a report: bars of accuracies, all on one scale, and confidence against accuracy."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifar_flax.analysis.figures import BLUE, CARD, GREY, ORANGE, class_label, new_figure, percent
from cifar_flax.evaluation.scores import Reliability, informative_top_k

NAMES, NUMBERS = 1.75, 0.55  # inches beside the bars: of names, at least, and of a percentage
TICK = 0.1  # inches between a name and its bar


def topk_chart(scores: dict[str, Any]) -> Figure:
    """Draws top-1, 2, 3 and 5 accuracy, those below the number of classes, and superclass accuracy where there is one.

    Args:
      scores: from `Run.score`.
    """
    rows = [(f"top-{k}", scores[f"top{k}"]) for k in informative_top_k(len(scores["per_class"]))]
    if "superclass_top1" in scores:
        rows.append(("superclass", scores["superclass_top1"]))
    return bar_chart(rows, "accuracy")


def ranked_classes(per_class: dict[str, dict[str, float]]) -> list[tuple[str, float]]:
    """Ranks the classes that occur by accuracy, the best first: (name, accuracy) each.

    Args:
      per_class: `per_class` of `Run.score`.
    """
    occurring = [(name, row["accuracy"]) for name, row in per_class.items() if row["support"]]
    return sorted(occurring, key=lambda row: -row[1])


def reliability_diagram(reliability: Reliability, before: Reliability | None = None) -> Figure:
    """Draws accuracy by confidence against the diagonal of a calibrated network, and below the images in each bin.

    Args:
      reliability: of the probabilities.
      before: of those before calibration, where there was one: drawn as outlines.
    """
    figure = new_figure(height=4.5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
    _draw_bins(upper, lower, reliability, {"color": BLUE, "edgecolor": "white"}, "accuracy")
    title = f"calibration error {percent(reliability.ece)}"
    if before is not None:
        _draw_bins(upper, lower, before, {"facecolor": "none", "edgecolor": ORANGE}, "before calibration")
        title += f", before {percent(before.ece)}"
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=title)
    lower.set(xlabel="confidence", ylabel="images")
    for axis in (upper.yaxis, lower.xaxis):
        axis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1, handlelength=1.5)
    return figure


def coverage_curve(probs: np.ndarray, labels: np.ndarray) -> Figure:
    """Draws the accuracy on the most confident images by their share: what a network is good for that may say "I do not know".

    Args:
      probs: float32 [N, C].
      labels: int32 [N].

    References:
      Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017.
    """
    right = (probs.argmax(1) == labels)[np.argsort(-probs.max(1), kind="stable")]
    answered = np.arange(1, len(right) + 1)
    figure = new_figure(height=4.5)
    axes = figure.add_subplot(
        xlabel="share of the images, the most confident first", title="accuracy on the most confident images"
    )
    axes.plot(answered / len(right), np.cumsum(right) / answered, color=BLUE)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    return figure


def bar_chart(rows: list[tuple[str, float]], title: str) -> Figure:
    """Draws (name, share in [0, 1]) each as a bar with its percentage.

    The bars of all such charts are on one scale: a chart with longer names is wider.
    """
    height = 0.7 + 0.24 * len(rows)
    figure = Figure(figsize=(CARD, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1))
    axes.barh(range(len(rows)), [share for _, share in rows], color=BLUE, height=0.75)
    axes.set_yticks(range(len(rows)), [class_label(name) for name, _ in rows])
    names = max([NAMES, *(label.get_window_extent().width / figure.dpi + TICK for label in axes.get_yticklabels())])
    width, bars = CARD - NAMES + names, CARD - NAMES - NUMBERS
    figure.set_size_inches(width, height)
    axes.set_position((names / width, 0.35 / height, bars / width, 1 - 0.65 / height))
    figure.suptitle(title, fontsize=10, y=1 - 0.08 / height, va="top")
    axes.set_xticks(np.linspace(0, 1, 5))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", visible=False)
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    for place, (_, share) in enumerate(rows):
        axes.text(share + 0.02, place, percent(share), va="center")
    return figure


def _draw_bins(upper: Any, lower: Any, reliability: Reliability, style: dict[str, str], label: str) -> None:
    bins = len(reliability.count)
    filled = reliability.count > 0
    left, count = np.linspace(0, 1, bins + 1)[:-1][filled], reliability.count[filled]
    upper.bar(left, reliability.accuracy[filled], 1 / bins, align="edge", label=label, **style)
    lower.bar(left, count, 1 / bins, align="edge", **(style | {"color": GREY} if "color" in style else style))
