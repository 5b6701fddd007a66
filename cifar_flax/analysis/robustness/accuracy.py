"""Accuracy under corruptions, in grayscale and with shifted hues: scores kept in JSON files, text tables and a picture."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field, TypeAdapter

from cifar_flax.analysis.figures import new_figure, percent
from cifar_flax.analysis.predictions import Predictions
from cifar_flax.analysis.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cifar_flax.analysis.robustness.image_filters import shift_hue, to_grayscale
from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import UserError
from cifar_flax.evaluation.scores import predicted_classes
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from cifar_flax.files.folder import make_folder
from cifar_flax.files.tables import format_table
from cifar_flax.network import Network
from cifar_flax.runtime.progress import ProgressLine

HUE_SHIFTS = (60, 120, 180, 240, 300)  # degrees of the colour circle

Share = Annotated[float, Field(strict=True, ge=0, le=1)]


@dataclass(frozen=True)
class _Corruptions:
    corruptions: dict[str, Annotated[list[Share], Field(max_length=len(SEVERITIES))]]
    mean: Share | None


@dataclass(frozen=True)
class _Colors:
    grey: Share
    hue: dict[str, Share]
    mean_hue: Share


KINDS: dict[str, TypeAdapter[Any]] = {"corruptions": TypeAdapter(_Corruptions), "color": TypeAdapter(_Colors)}


def corruption_accuracy(
    network: Network, dataset: Dataset, predictions: Predictions, folder: Path, names: Iterable[str] = CORRUPTIONS
) -> dict[str, Any]:
    """Top-1 under every corruption and severity, kept in FOLDER/NAME_corruptions.json score by score.

    What is there of the same predictions on clean images is not computed again: interrupted and called again, it goes on.

    Args:
      network: for images with three channels.
      dataset: clean images of its shape.
      predictions: of the network on them, which scores belong to; their test-time augmentation is used.
      folder: the report folder; made where it is missing.
      names: keys of CORRUPTIONS.

    Returns:
      split, checkpoint, tta, ema: as in `Predictions.about`; predictions_sha256: of the predictions; n: number of images;
        clean: top-1 on the clean images; corruptions: name -> top-1 for severities 1 to 5; mean: over all corruptions and
        severities, None before all are there.

    Raises:
      UserError: the images have no colour.
    """
    check_color(dataset.images.shape[-1])
    names, path, progress = list(names), _path(folder, predictions, "corruptions"), ProgressLine()
    kept = (_read(folder, predictions, "corruptions") or {}).get("corruptions", {})
    scores: dict[str, list[float]] = {name: kept.get(name, []) for name in names}
    make_folder(folder)

    def summary() -> dict[str, Any]:
        values = list(itertools.chain.from_iterable(scores.values()))
        mean = float(np.mean(values)) if len(values) == len(names) * len(SEVERITIES) else None
        return {**_header(predictions), "corruptions": scores, "mean": mean}

    for i, (name, severity) in enumerate(itertools.product(names, SEVERITIES), 1):
        if len(scores[name]) < severity:
            if progress.due():
                progress.show(f"corruptions: {i} of {len(names) * len(SEVERITIES)}, {name} {severity}")
            scores[name].append(_top1(network, dataset, corrupt(np.asarray(dataset.images), name, severity), predictions.tta))
            write_text(path, dumps_checksummed(summary()))
    progress.clear()
    return summary()


def color_accuracy(network: Network, dataset: Dataset, predictions: Predictions, folder: Path) -> dict[str, Any]:
    """Top-1 on clean images, in grayscale, and with shifted hues; written to FOLDER/NAME_color.json.

    Args:
      network: for images with three channels.
      dataset: clean images of its shape.
      predictions: as in `corruption_accuracy`.
      folder: the report folder; made where it is missing.

    Returns:
      split, checkpoint, tta, ema, predictions_sha256, n: as there; clean, grey: top-1; hue: degrees -> top-1; mean_hue: over
        those.

    Raises:
      UserError: the images have no colour.
    """
    check_color(dataset.images.shape[-1])
    images = np.asarray(dataset.images)
    grey = _top1(network, dataset, to_grayscale(images), predictions.tta)
    hue = {str(shift): _top1(network, dataset, shift_hue(images, shift), predictions.tta) for shift in HUE_SHIFTS}
    colors = {**_header(predictions), "grey": grey, "hue": hue, "mean_hue": float(np.mean(list(hue.values())))}
    make_folder(folder)
    write_text(_path(folder, predictions, "color"), dumps_checksummed(colors))
    return colors


def read_robustness(folder: Path, predictions: Predictions, kind: str) -> dict[str, Any] | None:
    """Reads the scores of these very predictions from a report folder; None where they are missing, damaged or incomplete.

    Args:
      folder: the report folder.
      predictions: on the clean images.
      kind: "corruptions" or "color".
    """
    scores = _read(folder, predictions, kind)
    return None if scores is None or scores.get("mean", 0) is None else scores


def corruption_rows(accuracies: dict[str, Any]) -> list[tuple[str, ...]]:
    """Header and rows of the result of `corruption_accuracy`: a row per corruption, a column per severity, and their mean."""
    rows = [("top-1, %", *map(str, SEVERITIES), "mean")]
    for name, values in accuracies["corruptions"].items():
        rows.append((name, *(f"{100 * value:.1f}" for value in (*values, np.mean(values)))))
    return rows


def corruption_table(accuracies: dict[str, Any]) -> str:
    """Formats the result of `corruption_accuracy`."""
    table = format_table(corruption_rows(accuracies), right=range(1, len(SEVERITIES) + 2))
    mean, clean = 100 * accuracies["mean"], 100 * accuracies["clean"]
    return f"{table}\nmean over all {mean:.2f}, clean {clean:.2f} ({accuracies['n']:,} images)"


def color_table(accuracies: dict[str, Any]) -> str:
    """Formats the result of `color_accuracy`: a row per change of colour."""
    values = {"clean": accuracies["clean"], "grayscale": accuracies["grey"]}
    values |= {f"hue {degrees}": value for degrees, value in accuracies["hue"].items()} | {"mean hue": accuracies["mean_hue"]}
    rows = [("top-1, %", ""), *((name, f"{100 * value:.2f}") for name, value in values.items())]
    return f"{format_table(rows, right={1})}  ({accuracies['n']:,} images)"


def corruption_figure(image: np.ndarray, accuracies: dict[str, Any]) -> Figure:
    """Draws an image under each corruption, a row each, and severity, a column each, with the top-1 below.

    Args:
      image: uint8 [H, W, 3].
      accuracies: from `corruption_accuracy`.
    """
    names = list(accuracies["corruptions"])
    figure = new_figure(0.3 + 1.0 * (1 + len(SEVERITIES)), 0.3 + 1.2 * len(names))
    grid = figure.subplots(len(names), 1 + len(SEVERITIES), squeeze=False)
    for row, name in zip(grid, names, strict=True):
        images = [image, *(corrupt(image[None], name, severity)[0] for severity in SEVERITIES)]
        for axes, shown, top1 in zip(row, images, (accuracies["clean"], *accuracies["corruptions"][name]), strict=True):
            axes.imshow(shown, interpolation="nearest")
            axes.set(xticks=[], yticks=[], xlabel=percent(top1))
            axes.grid(visible=False)
        row[0].set_ylabel(name.replace("_", " "))
    for axes, title in zip(grid[0], ("clean", *(f"severity {severity}" for severity in SEVERITIES)), strict=True):
        axes.set_title(title)
    return figure


def _path(folder: Path, predictions: Predictions, kind: str) -> Path:
    return folder / f"{predictions.name}_{kind}.json"


def _header(predictions: Predictions) -> dict[str, Any]:
    clean = float((predicted_classes(predictions.logits) == predictions.labels).mean())
    about = {**predictions.about, "predictions_sha256": predictions.sha256}
    return {**about, "n": len(predictions.labels), "clean": clean}


def _read(folder: Path, predictions: Predictions, kind: str) -> dict[str, Any] | None:
    try:
        scores = read_checksummed(_path(folder, predictions, kind))
        KINDS[kind].validate_python(scores)
    except (OSError, ValueError):
        return None
    corruptions = scores.get("corruptions", {})
    whole = scores.get("mean") is None or all(len(row) == len(SEVERITIES) for row in corruptions.values())
    complete = whole and corruptions.keys() <= CORRUPTIONS.keys()
    return scores if complete and _header(predictions).items() <= scores.items() else None


def _top1(network: Network, dataset: Dataset, images: np.ndarray, tta: str) -> float:
    return float((predicted_classes(network.logits(images, tta)) == dataset.labels).mean())


def check_color(channels: int) -> None:
    """Refuses images without colour.

    Raises:
      UserError: there are not three channels.
    """
    if channels != 3:
        plural = "s"[: channels != 1]
        raise UserError(f"images with {channels} channel{plural} have no colour; corruptions and hues need three channels")
