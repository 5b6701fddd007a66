"""Figures of single images: with their five most likely classes, and of pairs of classes that are confused."""

import numpy as np
from matplotlib.figure import Figure

from cifar_flax.analysis.figures import BLUE, GREEN, ORANGE, new_figure, percent, short, show_image
from cifar_flax.analysis.report.confusion import Pair, describe_pair
from cifar_flax.data.dataset import Dataset

BARS = 5


def confident_mistakes(probs: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Finds wrong predictions, the most confident first: indices int [M], M <= count.

    Args:
      probs: float32 [N, C]; rows with a NaN are not counted.
      labels: int32 [N].
      count: how many at most.
    """
    wrong = np.flatnonzero((probs.argmax(1) != labels) & ~np.isnan(probs).any(1))
    return wrong[np.argsort(-probs[wrong].max(1), kind="stable")][:count]


def prediction_card(image: np.ndarray, label: int, probs: np.ndarray, names: tuple[str, ...]) -> Figure:
    """Draws an image and its five most likely classes: the true one green, a wrong prediction orange.

    Args:
      image: uint8 [H, W, C].
      label: the true class.
      probs: float32 [C].
      names: class names, [C].
    """
    order = np.argsort(-probs, kind="stable")[:BARS]
    figure = new_figure(height=1.55)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    show_image(left, image)
    left.set_title(short(names[label], 20), fontsize=9, color=GREEN)
    colors = [GREEN if k == label else ORANGE if place == 0 else BLUE for place, k in enumerate(order)]
    right.barh(range(len(order)), probs[order], color=colors)
    right.set_yticks(range(len(order)), [short(names[k], 18) for k in order])
    right.set(xlim=(0, 1.42), xticks=[])
    right.invert_yaxis()
    right.grid(visible=False)
    right.spines[["bottom", "left"]].set_visible(False)
    right.tick_params(left=False)
    for place, k in enumerate(order):
        right.text(probs[k] + 0.03, place, percent(float(probs[k])), va="center", fontsize=8)
    return figure


def pair_card(pair: Pair, dataset: Dataset, predicted: np.ndarray) -> Figure:
    """Draws up to four images of a class that were predicted as another, and two of that other class.

    Args:
      pair: the two classes.
      dataset: all images.
      predicted: int [N], the predicted class of each image.
    """
    confused = np.flatnonzero((dataset.labels == pair.true) & (predicted == pair.predicted))[:4]
    others = np.flatnonzero(dataset.labels == pair.predicted)[:2]
    figure = new_figure(height=1.25)
    figure.suptitle(describe_pair(pair, dataset.class_names), fontsize=8.5, x=0.01, ha="left")
    axes = figure.subplots(1, 7, width_ratios=(1, 1, 1, 1, 0.15, 1, 1))
    for ax in axes:
        ax.set_axis_off()
    for ax, row in zip((*axes[: len(confused)], *axes[5 : 5 + len(others)]), (*confused, *others), strict=True):
        show_image(ax, np.asarray(dataset.images[row]))
    axes[0].set_title(short(dataset.class_names[pair.true], 26), fontsize=7, color=GREEN, loc="left")
    axes[5].set_title(short(dataset.class_names[pair.predicted], 14), fontsize=7, color=ORANGE, loc="left")
    return figure
