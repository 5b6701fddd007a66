"""Classifies photographs that Python packages ship, and writes docs/photographs.md and .png.

    python benchmarks/photographs.py                    # with the bundled network, or --run=runs/three_conv-short

The photographs come from scikit-image, scikit-learn and matplotlib; only small copies are in the page.
"""

from collections.abc import Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from absl import flags
from PIL import Image, ImageOps

from cifar_flax.runtime import app
from cifar_flax.serving.flags import define_network_flags, network_from_flags, view_options_from_flags

if TYPE_CHECKING:
    from cifar_flax.network import Network, Prediction

_OUT = flags.DEFINE_string("out", "docs/photographs.md", "the page to write; its picture goes beside it")
define_network_flags()

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


def main() -> None:
    """Classifies the photographs and writes the page and its picture."""
    network = network_from_flags()
    answers = [_classify(network, photograph) for photograph in PHOTOGRAPHS]
    page = Path(_OUT.value)
    _draw(answers, page.with_suffix(".png"))
    page.write_text(_page(network.name, page.with_suffix(".png").name, answers), encoding="utf-8")
    with_class = [answer for answer in answers if answer.photograph.classes]
    print(f"{sum(answer.rank is not None for answer in with_class)} of {len(with_class)} in the top five -> {page}")


def _classify(network: "Network", photograph: Photograph) -> Answer:
    options = view_options_from_flags()
    predictions: list[Prediction] = network.predict(photograph.read(), **options)
    rank = next((k for k, p in enumerate(predictions, 1) if p.name in photograph.classes), None)
    return Answer(photograph, network.view(photograph.read(), options["fit"]), predictions, rank)


def _draw(answers: Sequence[Answer], path: Path) -> None:
    """Draws a row per photograph: its square crop, the input of the network, and the five most probable classes."""
    from cifar_flax.analysis.figures import BLUE, GREY, drawing_style, new_figure, show_image

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
            row[2].set_yticks(places, [p.name.replace("_", " ") for p in answer.predictions])
            row[2].set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "50 %", "100 %"))
            row[2].grid(axis="y", visible=False)
            row[2].invert_yaxis()
        figure.savefig(path, dpi=100)


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _page(network: str, picture: str, answers: Sequence[Answer]) -> str:
    from cifar_flax.serving.formats import table

    with_class = [answer for answer in answers if answer.photograph.classes]
    hits = [f"{a.photograph.title} (rank {a.rank})" for a in with_class if a.rank]
    misses = [f"{a.photograph.title} ({_either(a.photograph.classes)})" for a in with_class if not a.rank]
    titles = [
        f"{a.photograph.title}: {f'expected {_either(a.photograph.classes)}' if a.photograph.classes else 'no such class'}"
        for a in answers
    ]
    tables = "\n".join(f"```\n{table(title, a.predictions).rstrip()}\n```\n" for title, a in zip(titles, answers, strict=True))
    return f"""# Photographs

Predictions of `{network}` for photographs that Python packages ship, cropped to a square and resized to 32x32: the five most
probable classes of each. Where CIFAR-100 has a class for the subject, it should be among the five. Written by
`python benchmarks/photographs.py`.

Among the five, {len(hits)} of {len(with_class)}: {"; ".join(hits) or "none"}.

Not among them: {"; ".join(misses) or "none"}.

![The photographs, the inputs of the network, and the five most probable classes, the correct ones blue]({picture})

The photographs come with scikit-image, scikit-learn and matplotlib. Those shown are in the public domain or CC0, except two of
scikit-learn's under [CC BY 2.0](https://creativecommons.org/licenses/by/2.0/): the temple by
[danielbuechele](https://www.flickr.com/photos/danielbuechele/6061409035/), the flower by
[vultilion](https://www.flickr.com/photos/vultilion/6056698931/); both are cropped and resized here.

{tables}"""


if __name__ == "__main__":
    app.run(main)
