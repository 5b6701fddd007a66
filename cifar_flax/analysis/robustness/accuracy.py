"""Accuracy under corruptions, in grayscale and with shifted hues: scores, text tables, JSON files and a picture."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from cifar_flax.analysis.figures import FigureWriter
from cifar_flax.analysis.predictions import Predictions
from cifar_flax.analysis.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cifar_flax.analysis.robustness.image_filters import shift_hue, to_grayscale
from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import UserError
from cifar_flax.evaluation.scores import predicted_classes
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed
from cifar_flax.files.folder import make_folder
from cifar_flax.files.tables import format_table
from cifar_flax.run import Run

T = TypeVar("T")
HUE_SHIFTS = (60, 120, 180, 240, 300)  # degrees of the colour circle


def corruption_accuracy(
    run: Run, dataset: Dataset, which: str | int, tta: str = "none", names: Iterable[str] = CORRUPTIONS
) -> dict[str, Any]:
    """Top-1 of a checkpoint under every corruption and severity.

    Args:
      run: a run on images with three channels.
      dataset: clean images of the run's shape.
      which: the checkpoint, as in `Run.predict`.
      tta: test-time augmentation, as in `Run.predict`.
      names: keys of CORRUPTIONS.

    Returns:
      n: number of images; clean: top-1 on the clean images; corruptions: name -> top-1 for severities 1 to 5; mean: over all
        corruptions and severities.

    Raises:
      UserError: the images have no colour.
    """
    _check_color(dataset)
    corruptions = {
        name: [_top1(run, dataset, corrupt(dataset.images, name, severity), which, tta) for severity in SEVERITIES]
        for name in _shown(names, "corruptions")
    }
    clean, mean = _top1(run, dataset, dataset.images, which, tta), float(np.mean(list(corruptions.values())))
    return {"n": len(dataset), "clean": clean, "corruptions": corruptions, "mean": mean}


def color_accuracy(run: Run, dataset: Dataset, which: str | int, tta: str = "none") -> dict[str, Any]:
    """Top-1 of a checkpoint on clean images, in grayscale, and with shifted hues.

    Args:
      run: a run on images with three channels.
      dataset: clean images of the run's shape.
      which: the checkpoint, as in `Run.predict`.
      tta: test-time augmentation, as in `Run.predict`.

    Returns:
      n: number of images; clean, grey: top-1; hue: degrees -> top-1; mean_hue: over those.

    Raises:
      UserError: the images have no colour.
    """
    _check_color(dataset)
    hue = {
        str(shift): _top1(run, dataset, shift_hue(dataset.images, shift), which, tta) for shift in _shown(HUE_SHIFTS, "hues")
    }
    clean, grey = (_top1(run, dataset, images, which, tta) for images in (dataset.images, to_grayscale(dataset.images)))
    return {"n": len(dataset), "clean": clean, "grey": grey, "hue": hue, "mean_hue": float(np.mean(list(hue.values())))}


def corruption_table(accuracies: dict[str, Any]) -> str:
    """Formats the result of `corruption_accuracy`: a row per corruption, a column per severity."""
    rows = [("top-1, %", *map(str, SEVERITIES), "mean")]
    for name, values in accuracies["corruptions"].items():
        rows.append((name, *(f"{100 * value:.1f}" for value in (*values, np.mean(values)))))
    table = format_table(rows, right=range(1, len(rows[0])))
    mean, clean = 100 * accuracies["mean"], 100 * accuracies["clean"]
    return f"{table}\nmean over all {mean:.2f}, clean {clean:.2f} ({accuracies['n']:,} images)"


def color_table(accuracies: dict[str, Any]) -> str:
    """Formats the result of `color_accuracy`: a row per change of colour."""
    values = {"clean": accuracies["clean"], "grayscale": accuracies["grey"]}
    values |= {f"hue {degrees}": value for degrees, value in accuracies["hue"].items()} | {"mean hue": accuracies["mean_hue"]}
    rows = [("top-1, %", ""), *((name, f"{100 * value:.2f}") for name, value in values.items())]
    return f"{format_table(rows, right={1})}  ({accuracies['n']:,} images)"


def write_robustness(folder: Path, name: str, predictions: Predictions, accuracies: dict[str, Any]) -> Path:
    """Writes FOLDER/SPLIT_NAME.json and returns its path.

    Args:
      folder: the report folder; made where it is missing.
      name: "corruptions" or "color".
      predictions: those on the clean images: their split, checkpoint and test-time augmentation are recorded.
      accuracies: from `corruption_accuracy` or `color_accuracy`.
    """
    make_folder(folder)
    path = folder / f"{predictions.split}_{name}.json"
    write_text(path, dumps_checksummed({**predictions.about, **accuracies}))
    return path


def draw_corruptions(folder: Path, split: str, dataset: Dataset, accuracies: dict[str, Any]) -> Path:
    """Writes FOLDER/SPLIT_corruptions.png, one image under each corruption and severity, and returns its path."""
    writer = FigureWriter(folder, split)
    with writer.style():
        figure = corruption_figure(dataset.images[0], accuracies)
        return folder / writer.add("corruptions", figure, "One image under each corruption and severity, with the top-1").file


def corruption_figure(image: np.ndarray, accuracies: dict[str, Any]) -> Figure:
    """Draws an image under each corruption, a row each, and severity, a column each, with the top-1 below.

    Args:
      image: uint8 [H, W, 3].
      accuracies: from `corruption_accuracy`.
    """
    names = list(accuracies["corruptions"])
    figure = Figure((1.2 * (1 + len(SEVERITIES)), 1.25 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), 1 + len(SEVERITIES), squeeze=False)
    for row, name in zip(grid, names, strict=True):
        images = [image, *(corrupt(image[None], name, severity)[0] for severity in SEVERITIES)]
        for axes, shown, top1 in zip(row, images, (accuracies["clean"], *accuracies["corruptions"][name]), strict=True):
            axes.imshow(shown)
            axes.set(xticks=[], yticks=[], xlabel=f"{top1:.1%}")
        row[0].set_ylabel(name.replace("_", " "))
    for axes, title in zip(grid[0], ("clean", *(f"severity {severity}" for severity in SEVERITIES)), strict=True):
        axes.set_title(title)
    return figure


def _shown(items: Iterable[T], what: str) -> "tqdm[T]":
    """The same items, with their progress on a terminal."""
    return tqdm(list(items), desc=what, unit="", disable=None, leave=False)


def _top1(run: Run, dataset: Dataset, images: np.ndarray, which: str | int, tta: str) -> float:
    logits = run.predict(dataclasses.replace(dataset, images=images), which, tta)
    return float((predicted_classes(logits) == dataset.labels).mean())


def _check_color(dataset: Dataset) -> None:
    channels = dataset.images.shape[-1]
    if channels != 3:
        plural = "s"[: channels != 1]
        raise UserError(f"images with {channels} channel{plural} have no colour; corruptions and hues need three channels")
