"""Draws what the write-ups draw, with our networks, and writes docs/claims.md: python benchmarks/claim_pictures.py.

It takes the runs of benchmarks/claims.py that are there, and the curves of its lines; what is missing is left out and named.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.claim_lines import read_lines
from benchmarks.claim_list import ROOT
from cifar_flax.errors import UserError
from cifar_flax.runtime import app

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cifar_flax.run import Run

_RUNS = flags.DEFINE_string("runs", "runs/claims", "folder of the runs, --output of benchmarks/claims.py")
_PAGE = flags.DEFINE_string("page", "docs/claims.md", "the page to write; its pictures go beside it")

SECTIONS = {  # of the page: by a picture's name, the question that it answers, and its heading
    "bars": ("what the wide network sees in photographs", "Guesses for photographs"),
    "confusion": ("which classes it takes for which", "Confusion"),
    "three_conv": ("how the three convolutions learn, by optimizer and rate", "Curves of three convolutions"),
    "vgg_bn": ("what keeps VGG from learning by heart", "Curves of VGG"),
    "samples": ("what the networks of the tutorial get right", "A grid of test images"),
    "probabilities": ("how sure they are", "Probabilities of test images"),
}
WIDE = ("wide-published", "wide", "wide-short")  # the first that is there is drawn
PROBABILITIES = ("bigger_conv-adam", "bigger_conv-dropout", "bigger_conv", "two_conv", "mlp")
SAMPLES = 5  # rows and columns of the grid of images
RED = "#b03030"  # of what is wrong
THREE_CONV = {  # what is said of test top-1, at which epoch
    "three_conv": (150, 0.5602),
    "three_conv:no_augment": (100, 0.4942),
    "three_conv:dropout": (100, 0.4917),
    "three_conv:decay": (100, 0.1195),
    "three_conv:sgd": (100, 0.0211),
    "three_conv:lr_1e-3": (100, None),
    "three_conv:sgd_tuned": (100, None),
}
VGG_BN = {"vgg_bn:base": (120, 0.4856), "vgg_bn:augment": (120, 0.592), "vgg_bn:dropout": (120, 0.53), "vgg_bn": (120, 0.63)}


def main() -> None:
    """Draws what can be drawn, and writes the page."""
    page = Path(_PAGE.value)
    lines = read_lines(ROOT / "benchmarks" / "results" / "claims.jsonl")
    made, missing = draw_all(Path(_RUNS.value), lines, page)
    if missing:
        print(f"left out, since there is no run or curve of it: {', '.join(missing)}")
    if not made:
        raise UserError(f"--runs={_RUNS.value}: nothing to draw; python benchmarks/claims.py trains what is needed")
    page.write_text(page_of(made, page.stem), encoding="utf-8")
    print(f"{len(made)} pictures -> {page}")


def draw_all(runs: Path, lines: Sequence[Mapping[str, Any]], page: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Draws each picture as PAGE_NAME.png; returns (name, caption) of those made, and the names of the others."""
    draw: Mapping[str, Callable[[Path], str | None]] = {
        "bars": lambda path: _draw_bars(_first(runs, WIDE), path),
        "confusion": lambda path: _draw_confusion(_first(runs, WIDE), path),
        "three_conv": lambda path: _draw_curves(lines, THREE_CONV, path),
        "vgg_bn": lambda path: _draw_curves(lines, VGG_BN, path),
        "samples": lambda path: _draw_samples(_first(runs, PROBABILITIES), path),
        "probabilities": lambda path: _draw_probabilities(_first(runs, PROBABILITIES), path),
    }
    made, missing = [], []
    for name, call in draw.items():
        path = page.with_name(f"{page.stem}_{name}.png")
        if caption := call(path):
            made.append((name, caption))
        else:
            missing.append(name)
    return made, missing


def curves(lines: Sequence[Mapping[str, Any]], said: Mapping[str, tuple[int, float | None]]) -> "Figure | None":
    """Top-1 by epoch of seed 0: validation solid, training dotted, and a cross for what is said; None without curves.

    Args:
      lines: of benchmarks/results/claims.jsonl.
      said: (epoch, top-1 on test) of each config.
    """
    from cifar_flax.analysis.figures import new_figure

    of = {line["config"]: line for line in lines if line.get("seed") == 0 and line["planned"] is None and "curves" in line}
    if not of.keys() & said.keys():
        return None
    figure = new_figure(7.5, 4.0)
    axes = figure.add_subplot(xlabel="epoch", ylabel="top-1", ylim=(0, 1))
    for i, (config, (epoch, top1)) in enumerate(said.items()):
        if config in of:
            values = of[config]["curves"]
            axes.plot(values["epoch"], values["validation_top1"], color=f"C{i}", label=config)
            axes.plot(values["epoch"], values["train_top1"], ":", color=f"C{i}")
            if top1 is not None:
                axes.plot([epoch], [top1], "x", color=f"C{i}", markersize=9)
    figure.legend(loc="outside right upper")
    return figure


def sample_grid(network: Any, images: np.ndarray, labels: np.ndarray) -> "Figure":
    """Images uint8 [N, H, W, C] in a square grid, each under its guess, and the class where that is another."""
    from cifar_flax.analysis.figures import class_label, new_figure, show_image

    names = network.class_names
    guesses = network.logits(images).argmax(-1)
    figure = new_figure(7.5, 8.0)
    for axes, image, label, guess in zip(figure.subplots(SAMPLES, SAMPLES).flat, images, labels, guesses, strict=True):
        show_image(axes, image)
        right = guess == label
        axes.set_title(class_label(names[guess], 14) + ("" if right else f"\nis {class_label(names[label], 14)}"), fontsize=8,
                       color="black" if right else RED)  # fmt: skip
    return figure


def probability_bars(network: Any, images: np.ndarray, labels: np.ndarray) -> "Figure":
    """A row for each image uint8 [N, H, W, C]: it, and a bar for each class: its own blue, a wrong guess red."""
    from cifar_flax.analysis.figures import BLUE, GREY, class_label, new_figure, show_image

    names, probabilities = network.class_names, network.probabilities(images)
    figure = new_figure(7.5, 1.6 * len(images))
    for row, image, label, values in zip(
        figure.subplots(len(images), 2, width_ratios=(1, 3)), images, labels, probabilities, strict=True
    ):
        show_image(row[0], image)
        colors = {int(values.argmax()): RED, int(label): BLUE}
        row[1].bar(range(len(values)), values, color=[colors.get(i, GREY) for i in range(len(values))])
        row[1].set(ylim=(0, 1))
        row[1].set_xticks(range(len(values)), [class_label(name) for name in names], fontsize=7, rotation=30)
    return figure


def _draw_curves(lines: Sequence[Mapping[str, Any]], said: Mapping[str, tuple[int, float | None]], path: Path) -> str | None:
    from cifar_flax.analysis.figures import drawing_style

    with drawing_style():
        if (figure := curves(lines, said)) is None:
            return None
        figure.savefig(path, dpi=100)
    family = next(iter(said)).partition(":")[0]
    return f"`{family}`: validation solid, training dotted; a cross is what the write-up says of test, on which it validates"


def _draw_bars(run: "Run | None", path: Path) -> str | None:
    if run is None:
        return None
    from benchmarks.photograph_answers import PHOTOGRAPHS, classify, draw

    network = run.network()
    draw([classify(network, photograph) for photograph in PHOTOGRAPHS], path)
    return f"`{run.workdir.name}`: five guesses for photographs, right ones blue, as its author's demo draws them"


def _draw_confusion(run: "Run | None", path: Path) -> str | None:
    if run is None or not (saved := run.workdir / "report" / "test_confusion.npy").exists():
        return None
    from cifar_flax.analysis.figures import drawing_style
    from cifar_flax.analysis.report.confusion import heat_map

    with drawing_style(run.class_names):
        heat_map(np.load(saved), run.class_names, "test").savefig(path, dpi=80)
    return f"`{run.workdir.name}`: true classes, in rows, and predicted ones, in grey"


def _draw_samples(run: "Run | None", path: Path) -> str | None:
    return _draw_images(run, path, sample_grid, SAMPLES**2, "images of test under the guess, in red where it is wrong")


def _draw_probabilities(run: "Run | None", path: Path) -> str | None:
    return _draw_images(run, path, probability_bars, SAMPLES, "probabilities of classes: the right one blue, a wrong guess red")


def _draw_images(
    run: "Run | None", path: Path, figure: "Callable[[Any, np.ndarray, np.ndarray], Figure]", count: int, what: str
) -> str | None:
    if run is None:
        return None
    from cifar_flax.analysis.figures import drawing_style

    test = run.dataset("test")
    with drawing_style(run.class_names):
        figure(run.network(), test.images[:count], test.labels[:count]).savefig(path, dpi=100)
    return f"`{run.workdir.name}`: {what}"


def _first(runs: Path, names: Sequence[str]) -> "Run | None":
    """The first of these runs that is there."""
    from cifar_flax.run import Run  # imports JAX

    evaluated = (runs / name for name in names if (runs / name / "report" / "test.json").exists())
    return next((Run.open(path) for path in evaluated), None)


def page_of(made: Sequence[tuple[str, str]], stem: str) -> str:
    """The page, of the pictures STEM_NAME.png: (name, caption) of each."""
    rows = [f"| {question} | [{heading}](#{heading.lower().replace(' ', '-')}) |" for question, heading in map(_section, made)]
    sections = [f"## {_section(picture)[1]}\n\n![{picture[1]}]({stem}_{picture[0]}.png)\n\n*{picture[1]}.*" for picture in made]
    return f"""# What the write-ups draw, by our networks

| question | section |
| --- | --- |
| where the pictures and the figures come from | [below](#what-the-write-ups-draw-by-our-networks) |
{chr(10).join(rows)}

Written by `python benchmarks/claim_pictures.py` from the runs and lines of `python benchmarks/claims.py`;
[experiments.md](experiments.md) has the figures.

{(2 * chr(10)).join(sections)}
"""


def _section(picture: tuple[str, str]) -> tuple[str, str]:
    return SECTIONS[picture[0]]


if __name__ == "__main__":
    app.run(main)
