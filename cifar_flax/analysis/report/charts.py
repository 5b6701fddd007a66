"""Bar charts of a report: top-k accuracy, the best and the worst classes, and confidence against accuracy."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cifar_flax.analysis.figures import BLUE, GREY, ORANGE, new_figure, percent, short
from cifar_flax.evaluation.scores import TOP_K, Reliability


def topk_chart(scores: dict[str, Any]) -> Figure:
    """Draws top-1, 2, 3 and 5 accuracy, and superclass accuracy where there is one.

    Args:
      scores: from `Run.score`.
    """
    rows = [(f"top-{k}", scores[f"top{k}"]) for k in TOP_K]
    if "superclass_top1" in scores:
        rows.append(("superclass", scores["superclass_top1"]))
    return _bar_chart(rows, "accuracy")


def class_chart(rows: list[tuple[str, float]], title: str) -> Figure:
    """Draws the accuracies of classes, (name, share in [0, 1]) each, from the top down."""
    return _bar_chart([(short(name), share) for name, share in rows], title)


def ranked_classes(per_class: dict[str, dict[str, float]]) -> list[tuple[str, float]]:
    """Ranks the classes that occur by accuracy, the best first: (name, accuracy) each.

    Args:
      per_class: `per_class` of `Run.score`.
    """
    occurring = [(name, row["accuracy"]) for name, row in per_class.items() if row["support"]]
    return sorted(occurring, key=lambda row: -row[1])


def reliability_diagram(reliability: Reliability) -> Figure:
    """Draws accuracy by confidence against the diagonal of a calibrated network, and below the images in each bin."""
    figure = new_figure(height=4.5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins = len(reliability.count)
    filled = reliability.count > 0
    left, count = np.linspace(0, 1, bins + 1)[:-1][filled], reliability.count[filled]
    confidence, accuracy = reliability.confidence[filled], reliability.accuracy[filled]
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
    upper.bar(left, accuracy, 1 / bins, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    upper.plot(confidence, accuracy, "o", color=ORANGE, markersize=3, label="at mean confidence")
    title = f"expected calibration error {percent(reliability.ece)}"
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=title)
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1, handlelength=1.5)
    lower.bar(left, count, 1 / bins, align="edge", color=GREY, edgecolor="white")
    lower.set(xlabel="confidence", ylabel="images")
    return figure


def _bar_chart(rows: list[tuple[str, float]], title: str) -> Figure:
    """Draws (name, share in [0, 1]) each as a bar with its percentage."""
    figure = new_figure(height=0.7 + 0.24 * len(rows))
    axes = figure.add_subplot(title=title, xlim=(0, 1.15))
    axes.barh(range(len(rows)), [share for _, share in rows], color=BLUE, height=0.75)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    for place, (_, share) in enumerate(rows):
        axes.text(share + 0.01, place, percent(share), va="center")
    return figure
