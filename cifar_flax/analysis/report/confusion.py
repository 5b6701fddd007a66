"""Confusion of classes: matrices of classes and superclasses, and the pairs most often confused."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from cifar_flax.analysis.figures import class_label, new_figure, percent
from cifar_flax.data.class_names import display_name

LABELLED = 200  # with more classes there is no room for their names
NUMBERED = 25  # with at most so many there is room for numbers
BAR = 1.8  # inches of a colour bar


class Pair(NamedTuple):
    """Class `true` was predicted as `predicted` in `images` of its `support` images; classes are indices."""

    true: int
    predicted: int
    images: int
    support: int


def most_confused(confusion: np.ndarray, count: int) -> list[Pair]:
    """Finds the off-diagonal cells with the most images, the largest first; at most `count`, none empty.

    Args:
      confusion: int [C, C], a row per true class.
      count: how many at most.
    """
    wrong = confusion * (1 - np.eye(len(confusion), dtype=confusion.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    cells = (np.unravel_index(cell, wrong.shape) for cell in order)
    support = confusion.sum(1)
    return [Pair(int(i), int(j), int(wrong[i, j]), int(support[i])) for i, j in cells if wrong[i, j]]


def coarse_confusion(confusion: np.ndarray, coarse_of_fine: tuple[int, ...], superclasses: int) -> np.ndarray:
    """Sums a confusion matrix over superclasses.

    Args:
      confusion: int [C, C].
      coarse_of_fine: the superclass of each class, [C]; classes with -1 are left out.
      superclasses: S, their number.

    Returns:
      int [S, S].
    """
    member = np.zeros((len(confusion), superclasses), confusion.dtype)
    member[np.arange(len(confusion)), coarse_of_fine] = np.array(coarse_of_fine) >= 0
    return member.T @ confusion @ member


def by_superclass(coarse_of_fine: tuple[int, ...]) -> np.ndarray:
    """Orders classes by their superclass: int [C], an index per class."""
    return np.argsort(coarse_of_fine, kind="stable")


def heat_map(confusion: np.ndarray, names: tuple[str, ...], title: str, boundaries: Sequence[int] = ()) -> Figure:
    """Draws the share of each true class, a row, that was predicted as each class, a column: white is none, black is all.

    Args:
      confusion: int [C, C].
      names: one per class, [C]; not shown where there are more than 200.
      title: title of the figure.
      boundaries: rows and columns before which to draw a line.
    """
    classes = len(names)
    cell = max(0.125, min(0.4, 5.4 / classes)) if classes <= LABELLED else 25 / classes
    size = 9 if classes <= NUMBERED else 7
    shown = [class_label(name) for name in names] if classes <= LABELLED else []
    label = 0.0085 * size * max(map(len, shown), default=0)
    figure = new_figure(1.045 * classes * cell + label + 1.25, classes * cell + label + 0.65)
    axes = figure.add_subplot(title=title, xlabel="predicted class", ylabel="true class")
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    # The square root tells one image in a hundred from none.
    drawn = axes.imshow(shares, cmap="Greys", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    axes.grid(visible=False)
    axes.set_xticks(range(len(shown)), shown, rotation=90, fontsize=size)
    axes.set_yticks(range(len(shown)), shown, fontsize=size)
    for place in boundaries:
        axes.axhline(place - 0.5, color="#9db8d6", linewidth=0.6)
        axes.axvline(place - 0.5, color="#9db8d6", linewidth=0.6)
    if classes <= NUMBERED:
        for (i, j), share in np.ndenumerate(shares):
            if share >= 0.005:
                axes.text(j, i, f"{share:.0%}"[:-1], ha="center", va="center", fontsize=7, color="w" if share > 0.37 else "k")
    share = min(1, max(0.5, BAR / (classes * cell)))  # of the matrix' height: long enough for the label
    bar = figure.colorbar(drawn, ax=axes, shrink=share, aspect=60 * share, format=lambda value, _: f"{value:.0%}")
    bar.set_label("% of the true class")
    return figure


def describe_pair(pair: Pair, names: tuple[str, ...]) -> str:
    """Describes a pair in one line."""
    share = percent(pair.images / pair.support)
    true, predicted = display_name(names[pair.true]), display_name(names[pair.predicted])
    return f"{true} predicted as {predicted}: {pair.images} of {pair.support} ({share})"
