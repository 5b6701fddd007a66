"""Classifies photographs that Python packages ship, and writes docs/photographs.md and .png about it.

    python benchmarks/photographs.py                    # by the network in the box, or --run=runs/three_conv-short

The photographs themselves are those of scikit-image, scikit-learn and matplotlib; only the page's small copies are here.
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
from cifar_flax.serving.flags import define_network_flags, network_from_flags

if TYPE_CHECKING:
    from cifar_flax.serving.classifier import Classifier, Prediction

_OUT = flags.DEFINE_string("out", "docs/photographs.md", "the page to write, beside its picture")
define_network_flags()

SHOWN = 160  # pixels a side of a photograph in the picture

FLOWERS = ("orchid", "poppy", "rose", "sunflower", "tulip")


class Photograph(NamedTuple):
    """A picture of a package.

    Attributes:
      title: what it shows.
      package, path: where it is.
      classes: those of CIFAR-100 that would be right; none where it knows no such thing.
      free: whether its licence lets a copy stand in the page.
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
    """What a network says of a photograph; `rank` is the place of a class that would be right, None beyond the fifth."""

    photograph: Photograph
    seen: np.ndarray  # uint8 [32, 32, 3]
    predictions: list["Prediction"]
    rank: int | None


def main() -> None:
    """Classifies the photographs and writes the page and its picture."""
    name, classifier = network_from_flags()
    answers = [_ask(classifier, photograph) for photograph in PHOTOGRAPHS]
    page = Path(_OUT.value)
    _draw(answers, page.with_suffix(".png"))
    page.write_text(_page(name, page.with_suffix(".png").name, answers), encoding="utf-8")
    known = [answer for answer in answers if answer.photograph.classes]
    print(f"{sum(answer.rank is not None for answer in known)} of {len(known)} in the top five -> {page}")


def _ask(classifier: "Classifier", photograph: Photograph) -> Answer:
    predictions = classifier.classify(photograph.read())
    rank = next((k for k, p in enumerate(predictions, 1) if p.name in photograph.classes), None)
    return Answer(photograph, classifier.view(photograph.read()), predictions, rank)


def _draw(answers: Sequence[Answer], path: Path) -> None:
    """A row a photograph: the square that is looked at, what the network sees of it, and five bars."""
    from cifar_flax.analysis.figures import BLUE, GREY, Album, new_figure, show_image

    with Album(path.parent, path.stem).style():
        figure = new_figure(7.5, 1.45 * len(answers))
        axes = figure.subplots(len(answers), 3, width_ratios=(1, 1, 2.2))
        for row, answer in zip(axes, answers, strict=True):
            row[0].set_axis_off()
            if answer.photograph.free:
                photograph = Image.open(BytesIO(answer.photograph.read())).convert("RGB")
                show_image(row[0], np.asarray(ImageOps.fit(photograph, (SHOWN, SHOWN))))
            show_image(row[1], answer.seen)
            places = range(len(answer.predictions))
            right = [p.name in answer.photograph.classes for p in answer.predictions]
            row[2].barh(places, [p.probability for p in answer.predictions], color=[BLUE if r else GREY for r in right])
            row[2].set_yticks(places, [p.name.replace("_", " ") for p in answer.predictions])
            row[2].set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "50 %", "100 %"))
            row[2].grid(axis="y", visible=False)
            row[2].invert_yaxis()
        figure.savefig(path, dpi=100)


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _page(network: str, picture: str, answers: Sequence[Answer]) -> str:
    from cifar_flax.serving.formats import table

    known = [answer for answer in answers if answer.photograph.classes]
    hits = [f"{a.photograph.title} (place {a.rank})" for a in known if a.rank]
    misses = [f"{a.photograph.title} ({_either(a.photograph.classes)})" for a in known if not a.rank]
    titles = [
        f"{a.photograph.title}: {f'expected {_either(a.photograph.classes)}' if a.photograph.classes else 'no such class'}"
        for a in answers
    ]
    tables = "\n".join(f"```\n{table(title, a.predictions).rstrip()}\n```\n" for title, a in zip(titles, answers, strict=True))
    return f"""# Photographs

What `{network}` says of photographs that Python packages ship, cropped to a square and shrunk to 32x32: the five most likely
classes of each. Those that show something that CIFAR-100 has a class for should have it among the five. Made by
`python benchmarks/photographs.py`.

Among the five, {len(hits)} of {len(known)}: {"; ".join(hits) or "none"}.

Not among them: {"; ".join(misses) or "none"}.

![The photographs, what the network sees of them, and five bars each; those of a right class are blue]({picture})

The photographs come with scikit-image, scikit-learn and matplotlib. Those shown are in the public domain or CC0, but for two of
scikit-learn's under [CC BY 2.0](https://creativecommons.org/licenses/by/2.0/): the temple by
[danielbuechele](https://www.flickr.com/photos/danielbuechele/6061409035/), the flower by
[vultilion](https://www.flickr.com/photos/vultilion/6056698931/); both are cropped and made smaller here.

{tables}"""


if __name__ == "__main__":
    app.run(main)
