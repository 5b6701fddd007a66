"""Classifies photographs that Python packages ship, and writes docs/photographs.md and .png.

    python benchmarks/photographs.py                    # with the bundled network, or --run=runs/three_conv-short

The photographs come from scikit-image, scikit-learn and matplotlib; only small copies are in the page.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.photograph_answers import PHOTOGRAPHS, Answer, classify, draw
from cifar_flax.runtime import app
from cifar_flax.runtime.flag_values import Fit
from cifar_flax.serving.flags import define_network_flags, network_from_flags

_OUT = flags.DEFINE_string("out", "docs/photographs.md", "the page to write; its picture goes beside it")
define_network_flags()


def main() -> None:
    """Classifies the photographs and writes the page and its picture."""
    network, fit = network_from_flags(), Fit(flags.FLAGS.fit)
    answers = [classify(network, photograph, fit, flags.FLAGS.flip) for photograph in PHOTOGRAPHS]
    page = Path(_OUT.value)
    draw(answers, page.with_suffix(".png"))
    page.write_text(_page(network.name, page.with_suffix(".png").name, answers), encoding="utf-8")
    with_class = [answer for answer in answers if answer.photograph.classes]
    print(f"{sum(answer.rank is not None for answer in with_class)} of {len(with_class)} in the top five -> {page}")


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

| question | section |
| --- | --- |
| what the pretrained network sees in photographs, and how often it is right | [Predictions](#predictions) |
| whose photographs they are | [Licences](#licences) |
| which five classes it found likeliest, and by how many percent | [Percentages](#percentages) |

## Predictions

Predictions of `{network}` for photographs that Python packages ship, cropped to a square and resized to 32x32: the five most
probable classes of each. Where CIFAR-100 has a class for the subject, it should be among the five. Written by
`python benchmarks/photographs.py`.

Among the five, {len(hits)} of {len(with_class)}: {"; ".join(hits) or "none"}.

Not among them: {"; ".join(misses) or "none"}.

![The photographs, the inputs of the network, and the five most probable classes, the correct ones blue]({picture})

## Licences

The photographs come with scikit-image, scikit-learn and matplotlib. Those shown are in the public domain or CC0, except two of
scikit-learn's under [CC BY 2.0](https://creativecommons.org/licenses/by/2.0/): the temple by
[danielbuechele](https://www.flickr.com/photos/danielbuechele/6061409035/), the flower by
[vultilion](https://www.flickr.com/photos/vultilion/6056698931/); both are cropped and resized here.

## Percentages

{tables}"""


if __name__ == "__main__":
    app.run(main)
