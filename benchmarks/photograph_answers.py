"""Photographs that Python packages ship, and a picture of what a network takes them for."""

from collections.abc import Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from cifar_flax.runtime.flag_values import Fit

if TYPE_CHECKING:
    from cifar_flax.network import Network, Prediction

SHOWN = 160  # pixels per side of a photograph in the picture

FLOWERS = ("orchid", "poppy", "rose", "sunflower", "tulip")


class Photograph(NamedTuple):
    """A photograph that a package ships.

    Attributes:
      title: a description.
      package, path: the package, and the file in it.
      classes: classes of CIFAR-100 that count as correct; empty where CIFAR-100 has none.
      free: whether its licence permits a copy in the page.
    """

    title: str
    package: str
    path: str
    classes: tuple[str, ...]
    free: bool = True

    def read(self) -> bytes:
        """The bytes of the file."""
        return files(self.package).joinpath(*self.path.split("/")).read_bytes()


PHOTOGRAPHS = (
    Photograph("a rocket on its launch pad at night", "skimage", "data/rocket.jpg", ("rocket",)),
    Photograph("a cup of coffee, from above", "skimage", "data/coffee.png", ("cup",)),
    Photograph("a pink dahlia", "sklearn", "datasets/images/flower.jpg", FLOWERS),
    Photograph("a Chinese temple", "sklearn", "datasets/images/china.jpg", ("house", "castle")),
    Photograph("a motorcycle in a garage", "skimage", "data/motorcycle_left.png", ("motorcycle",), free=False),
    Photograph("an astronaut, Eileen Collins", "skimage", "data/astronaut.png", ("woman",)),
    Photograph("an admiral, Grace Hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", ("woman",)),
    Photograph("a man with a camera, in black and white", "skimage", "data/camera.png", ("man",)),
    Photograph("the face of a cat, Chelsea", "skimage", "data/chelsea.png", ()),
)


class Answer(NamedTuple):
    """The predictions for a photograph.

    Attributes:
      photograph: the photograph.
      view: the network's input, uint8 [32, 32, 3].
      predictions: the five most probable classes.
      rank: rank of the first correct class among them, from 1; None where none is correct.
    """

    photograph: Photograph
    view: np.ndarray
    predictions: list["Prediction"]
    rank: int | None


def classify(network: "Network", photograph: Photograph, fit: Fit = Fit.CROP, flip: bool = False) -> Answer:
    """The five most probable classes of a photograph; `fit` and `flip` are those of `Network.predict`."""
    predictions: list[Prediction] = network.predict(photograph.read(), fit=fit, flip=flip)
    rank = next((k for k, p in enumerate(predictions, 1) if p.name in photograph.classes), None)
    return Answer(photograph, network.view(photograph.read(), fit), predictions, rank)


def draw(answers: Sequence[Answer], path: Path) -> None:
    """Draws a row per photograph: its square crop, the input of the network, and the five most probable classes."""
    from cifar_flax.analysis.figures import BLUE, GREY, class_label, drawing_style, new_figure, show_image

    with drawing_style():
        figure = new_figure(7.5, 1.45 * len(answers))
        axes = figure.subplots(len(answers), 3, width_ratios=(1, 1, 2.2))
        for row, answer in zip(axes, answers, strict=True):
            row[0].set_axis_off()
            if answer.photograph.free:
                photograph = Image.open(BytesIO(answer.photograph.read())).convert("RGB")
                show_image(row[0], np.asarray(ImageOps.fit(photograph, (SHOWN, SHOWN))))
            show_image(row[1], answer.view)
            places = range(len(answer.predictions))
            correct = [p.name in answer.photograph.classes for p in answer.predictions]
            row[2].barh(places, [p.probability for p in answer.predictions], color=[BLUE if c else GREY for c in correct])
            row[2].set_yticks(places, [class_label(p.name) for p in answer.predictions])
            row[2].set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "50 %", "100 %"))
            row[2].grid(axis="y", visible=False)
            row[2].invert_yaxis()
        figure.savefig(path, dpi=100)
