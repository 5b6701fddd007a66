"""Which classes a network takes for which: matrices of fine and coarse classes, and the pairs most often confused."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from cifar_flax.analysis.figures import new_figure, percent, short

LABELLED = 200  # more classes than these have no room for their names
NUMBERED = 25  # so few have room for numbers


class Pair(NamedTuple):
    """Class `true` was taken for `predicted` in `images` of its `support` images; classes are indices."""

    true: int
    predicted: int
    images: int
    support: int


def most_confused(confusion: np.ndarray, count: int) -> list[Pair]:
    """The off-diagonal cells with the most images, of int [C, C], a row a true class; `count` of them at most, none empty."""
    wrong = confusion * (1 - np.eye(len(confusion), dtype=confusion.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    cells = (np.unravel_index(cell, wrong.shape) for cell in order)
    support = confusion.sum(1)
    return [Pair(int(i), int(j), int(wrong[i, j]), int(support[i])) for i, j in cells if wrong[i, j]]


def coarse_confusion(confusion: np.ndarray, coarse_of_fine: tuple[int, ...], superclasses: int) -> np.ndarray:
    """Int [C, C] of classes to int [S, S] of their superclasses."""
    member = np.zeros((len(confusion), superclasses), confusion.dtype)
    member[np.arange(len(confusion)), coarse_of_fine] = 1
    return member.T @ confusion @ member


def by_superclass(coarse_of_fine: tuple[int, ...]) -> np.ndarray:
    """The order of classes, int [C], in which those of a superclass stand together."""
    return np.argsort(coarse_of_fine, kind="stable")


def heat_map(confusion: np.ndarray, names: tuple[str, ...], title: str, boundaries: Sequence[int] = ()) -> Figure:
    """The share of each true class, a row, that was taken for each class, a column, from white (none) to black (all).

    Args:
      confusion: int [C, C].
      names: [C]; left out where there are more than 200.
      title: above it.
      boundaries: rows and columns before which a line is drawn.
    """
    classes = len(names)
    cell = max(0.125, min(0.4, 6 / classes)) if classes <= LABELLED else 25 / classes
    size = 9 if classes <= NUMBERED else 7
    shown = [short(name, 32) for name in names] if classes <= LABELLED else []
    label = 0.0085 * size * max(map(len, shown), default=0)
    figure = new_figure(classes * cell + label + 1.8, classes * cell + label + 0.65)
    axes = figure.add_subplot(title=title, xlabel="taken for", ylabel="true class")
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
                axes.text(j, i, f"{share:.0%}"[:-1], ha="center", va="center", fontsize=7, color="w" if share > 0.3 else "k")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.5, aspect=30, format=lambda value, _: f"{value:.0%}")
    bar.set_label("share of the true class" + (", % in the cells" if classes <= NUMBERED else ""))
    return figure


def describe_pair(pair: Pair, names: tuple[str, ...]) -> str:
    """One line on a pair."""
    share = percent(pair.images / pair.support)
    return f"{short(names[pair.true])} taken for {short(names[pair.predicted])}: {pair.images} of {pair.support} ({share})"
