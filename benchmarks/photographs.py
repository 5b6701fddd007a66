"""Classifies photographs that Python packages ship, and writes docs/photographs.md about it.

    python benchmarks/photographs.py --run=runs/three_conv-short

None of them is in this repository; scikit-image, scikit-learn and matplotlib have them.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from absl import flags

from cifar_flax import cli
from cifar_flax.serving.flags import define_network_flags, network_from_flags

_OUT = flags.DEFINE_string("out", "docs/photographs.md", "the page to write")
define_network_flags()

FLOWERS = ("orchid", "poppy", "rose", "sunflower", "tulip")


class Photograph(NamedTuple):
    """A picture of a package, and the classes of CIFAR-100 that would be right: none where it knows no such thing."""

    title: str
    package: str
    path: str
    classes: tuple[str, ...]

    def read(self) -> bytes:
        """The bytes of the file."""
        return files(self.package).joinpath(*self.path.split("/")).read_bytes()


PHOTOGRAPHS = (
    Photograph("a rocket on its launch pad at night", "skimage", "data/rocket.jpg", ("rocket",)),
    Photograph("a cup of coffee, from above", "skimage", "data/coffee.png", ("cup",)),
    Photograph("a pink dahlia", "sklearn", "datasets/images/flower.jpg", FLOWERS),
    Photograph("a Chinese temple", "sklearn", "datasets/images/china.jpg", ("house", "castle")),
    Photograph("a motorcycle in a garage", "skimage", "data/motorcycle_left.png", ("motorcycle",)),
    Photograph("an astronaut, Eileen Collins", "skimage", "data/astronaut.png", ("woman",)),
    Photograph("an admiral, Grace Hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", ("woman",)),
    Photograph("a man with a camera, in black and white", "skimage", "data/camera.png", ("man",)),
    Photograph("the face of a cat, Chelsea", "skimage", "data/chelsea.png", ()),
)


def main() -> None:
    """Classifies the photographs and writes the page."""
    name, classifier = network_from_flags()

    from cifar_flax.serving import formats

    sections: list[str] = []
    hits: list[str] = []
    misses: list[str] = []
    for photograph in PHOTOGRAPHS:
        predictions = classifier.classify(photograph.read())
        rank = next((k for k, p in enumerate(predictions, 1) if p.name in photograph.classes), None)
        if photograph.classes:
            (hits if rank else misses).append(
                f"{photograph.title} ({f'place {rank}' if rank else _either(photograph.classes)})"
            )
        verdict = f"expected {_either(photograph.classes)}" if photograph.classes else "no such class"
        sections.append(formats.table(f"{photograph.title}: {verdict}", predictions))
    page = _page(name, sections, hits, misses)
    Path(_OUT.value).write_text(page, encoding="utf-8")
    print(f"{len(hits)} of {len(hits) + len(misses)} in the top five -> {_OUT.value}")


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _page(network: str, sections: Sequence[str], hits: Sequence[str], misses: Sequence[str]) -> str:
    blocks = "\n".join(f"```\n{section.rstrip()}\n```\n" for section in sections)
    return f"""# Photographs

What `{network}` says of photographs that Python packages ship, cropped to a square and shrunk to 32x32: the five most likely
classes of each. Those that show something that CIFAR-100 has a class for should have it among the five. Made by
`python benchmarks/photographs.py`; the pictures are those of scikit-image, scikit-learn and matplotlib.

Among the five, {len(hits)} of {len(hits) + len(misses)}: {"; ".join(hits) or "none"}.

Not among them: {"; ".join(misses) or "none"}.

{blocks}"""


if __name__ == "__main__":
    cli.run(main)
