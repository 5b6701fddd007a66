"""Single images with their most likely classes and what the prediction rests on, and pairs of classes that are confused."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from cifar_flax.analysis.figures import (
    BLUE,
    GREEN,
    ORANGE,
    WIDTH,
    Picture,
    PictureWriter,
    class_label,
    new_figure,
    percent,
    show_image,
    tile,
)
from cifar_flax.analysis.report.confusion import Pair, describe_pair
from cifar_flax.data.class_names import display_name
from cifar_flax.data.dataset import Dataset

BARS = 5
IMAGE = 76  # CSS pixels of an image beside bars
SHOWN = 4, 2  # images of a pair: confused ones, and others of the predicted class
COLORS = {"right": GREEN, "wrong": ORANGE, "other": BLUE}


@dataclass(frozen=True)
class Card:
    """An image in a page with its most likely classes.

    Attributes:
      image: the image.
      label: name of the true class.
      bars: (class name, probability, "right", "wrong" or "other") each, the likeliest first.
      evidence: the image with what its prediction rests on, where that was computed.
      lost: probability that the predicted class loses under the square that costs it most.
    """

    image: Picture
    label: str
    bars: list[tuple[str, float, str]]
    evidence: Picture | None = None
    lost: float = 0.0


def confident_mistakes(probs: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Finds wrong predictions, the most confident first: indices int [M], M <= count.

    Args:
      probs: float32 [N, C]; rows with a NaN are not counted.
      labels: int32 [N].
      count: how many at most.
    """
    wrong = np.flatnonzero((probs.argmax(1) != labels) & ~np.isnan(probs).any(1))
    return wrong[np.argsort(-probs[wrong].max(1), kind="stable")][:count]


def likeliest(label: int, probs: np.ndarray) -> list[tuple[int, str]]:
    """The five most likely classes of an image, the likeliest first: (class, key of COLORS) each.

    Args:
      label: the true class.
      probs: float32 [C].
    """
    order = np.argsort(-probs, kind="stable")[:BARS].tolist()
    return [(k, "right" if k == label else "wrong" if place == 0 else "other") for place, k in enumerate(order)]


def image_card(
    writer: PictureWriter,
    name: str,
    dataset: Dataset,
    row: int,
    probs: np.ndarray,
    evidence: np.ndarray | None = None,
    lost: float = 0.0,
) -> Card:
    """Writes an image, and with `evidence`, uint8 [H, W, 3], NAME_evidence.png beside it.

    Args:
      writer: of the page.
      name: of the file.
      dataset: all images.
      row: the image.
      probs: float32 [N, C].
      evidence: of `explanations.overlay`.
      lost: as in `Card`.
    """
    names, label = tuple(map(display_name, dataset.class_names)), int(dataset.labels[row])
    bars = [(names[k], float(probs[row, k]), kind) for k, kind in likeliest(label, probs[row])]
    image = writer.add_image(
        name, np.asarray(dataset.images[row]), f"Image {row}: {names[label]}, predicted as {bars[0][0]}", IMAGE
    )
    if evidence is None:
        return Card(image, names[label], bars)
    shown = writer.add_image(f"{name}_evidence", evidence, f"What the prediction {bars[0][0]} rests on", IMAGE)
    return Card(image, names[label], bars, shown, lost)


def prediction_card(image: np.ndarray, label: int, probs: np.ndarray, names: tuple[str, ...]) -> Figure:
    """Draws an image and its five most likely classes: the true one green, a wrong prediction orange.

    Args:
      image: uint8 [H, W, C].
      label: the true class.
      probs: float32 [C].
      names: class names, [C].
    """
    bars = likeliest(label, probs)
    order = [k for k, _ in bars]
    figure = new_figure(height=1.55)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    show_image(left, image)
    left.set_title(class_label(names[label], 20), fontsize=9, color=GREEN)
    right.barh(range(len(order)), probs[order], color=[COLORS[kind] for _, kind in bars])
    right.set_yticks(range(len(order)), [class_label(names[k], 18) for k in order])
    right.set(xlim=(0, 1.42), xticks=[])
    right.invert_yaxis()
    right.grid(visible=False)
    right.spines[["bottom", "left"]].set_visible(False)
    right.tick_params(left=False)
    for place, k in enumerate(order):
        right.text(probs[k] + 0.03, place, percent(float(probs[k])), va="center", fontsize=8)
    return figure


def pair_pictures(writer: PictureWriter, name: str, pair: Pair, dataset: Dataset, predicted: np.ndarray) -> dict[str, object]:
    """Writes up to four images of a class that were predicted as another, and two of that other class.

    Args:
      writer: of the page.
      name: of the files, NAME.png and NAME_others.png.
      pair: the two classes.
      dataset: all images.
      predicted: int [N], the predicted class of each image.

    Returns:
      text: the pair in a line; sides: (class name, "right" or "wrong", picture) each.
    """
    confused = np.flatnonzero((dataset.labels == pair.true) & (predicted == pair.predicted))[: SHOWN[0]]
    others = np.flatnonzero(dataset.labels == pair.predicted)[: SHOWN[1]]
    text, sides = describe_pair(pair, dataset.class_names), []
    rows_of = ((pair.true, "right", name, confused), (pair.predicted, "wrong", f"{name}_others", others))
    for class_index, kind, file, rows in rows_of:
        if len(rows):
            tiles = tile(np.asarray(dataset.images[rows]), len(rows))
            width = WIDTH * len(rows) // (sum(SHOWN) + 1)
            class_name = display_name(dataset.class_names[class_index])
            picture = writer.add_image(file, tiles, f"{text}: images of {class_name}", width)
            sides.append((class_name, kind, picture))
    return {"text": text, "sides": sides}
