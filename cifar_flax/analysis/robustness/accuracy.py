"""How a network takes to pictures that are not as it knows them: corrupted, without colour, with turned colours."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from matplotlib.figure import Figure

from cifar_flax.analysis.figures import Album
from cifar_flax.analysis.report.predictions import Predictions
from cifar_flax.analysis.robustness.corruptions import CHUNK, CORRUPTIONS, SEVERITIES, corrupt
from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import UserError
from cifar_flax.evaluation.scores import predicted_classes
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed
from cifar_flax.run import Run

GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
TURNS = (60, 120, 180, 240, 300)  # degrees of the colour circle


def corruption_accuracy(
    run: Run, dataset: Dataset, which: str | int, tta: str = "none", names: Iterable[str] = CORRUPTIONS
) -> dict[str, Any]:
    """Top-1 of a checkpoint on every corruption and severity.

    Args:
      run: of images with three channels.
      dataset: clean images, of the run's shape.
      which: as in `Run.predict`, and
      tta: likewise.
      names: of CORRUPTIONS.

    Returns:
      n: number of images; clean: top-1 on them as they are; corruptions: name -> five top-1, from the mildest on; mean: over
        all of those.

    Raises:
      UserError: the images are grey.
    """
    _need_color(dataset)
    found = {
        name: [_top1(run, dataset, corrupt(dataset.images, name, severity), which, tta) for severity in SEVERITIES]
        for name in names
    }
    clean = _top1(run, dataset, dataset.images, which, tta)
    return {"n": len(dataset), "clean": clean, "corruptions": found, "mean": float(np.mean(list(found.values())))}


def color_accuracy(run: Run, dataset: Dataset, which: str | int, tta: str = "none") -> dict[str, Any]:
    """Top-1 of a checkpoint on the images as they are, in grey, and with hues turned.

    Args:
      run: of images with three channels.
      dataset: clean images, of the run's shape.
      which: as in `Run.predict`, and
      tta: likewise.

    Returns:
      n: number of images; clean, grey: top-1; hue: degrees -> top-1; mean_hue: over those.

    Raises:
      UserError: the images are grey.
    """
    _need_color(dataset)
    hue = {str(turn): _top1(run, dataset, turn_hue(dataset.images, turn), which, tta) for turn in TURNS}
    clean, grey = (_top1(run, dataset, images, which, tta) for images in (dataset.images, to_grey(dataset.images)))
    return {"n": len(dataset), "clean": clean, "grey": grey, "hue": hue, "mean_hue": float(np.mean(list(hue.values())))}


def to_grey(images: np.ndarray) -> np.ndarray:
    """The luma of uint8 [N, H, W, 3] in all three channels."""
    grey = np.rint(images @ GREY).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def turn_hue(images: np.ndarray, degrees: float) -> np.ndarray:
    """Uint8 [N, H, W, 3] with every hue turned on the colour circle of HSV; 120 makes red green."""
    out = np.empty_like(images)
    for start in range(0, len(images), CHUNK):  # or all of them would be floating-point numbers at once
        hsv = rgb_to_hsv(images[start : start + CHUNK] / 255)
        hsv[..., 0] = (hsv[..., 0] + degrees / 360) % 1
        out[start : start + CHUNK] = np.rint(hsv_to_rgb(hsv) * 255)
    return out


def corruption_table(found: dict[str, Any]) -> str:
    """What `corruption_accuracy` found, as text: a row a corruption, a column a severity."""
    rows = [f"{'top-1, %':15}" + "".join(f"{severity:>7}" for severity in SEVERITIES) + "   mean"]
    for name, values in found["corruptions"].items():
        rows.append(f"{name:15}" + "".join(f"{100 * value:7.1f}" for value in (*values, np.mean(values))))
    return "\n".join([*rows, f"all {100 * found['mean']:.2f}, as they are {100 * found['clean']:.2f} ({found['n']:,} images)"])


def color_table(found: dict[str, Any]) -> str:
    """What `color_accuracy` found, as text."""
    values = {"as they are": found["clean"], "grey": found["grey"]} | {f"hue {k}": v for k, v in found["hue"].items()}
    rows = [f"{name:12}{100 * value:7.2f}" for name, value in values.items()]
    return "\n".join([f"{'top-1, %':12}", *rows, f"{'mean hue':12}{100 * found['mean_hue']:7.2f} ({found['n']:,} images)"])


def write_robustness(folder: Path, name: str, predictions: Predictions, found: dict[str, Any]) -> Path:
    """Writes FOLDER/SPLIT_NAME.json: what was found, and which `predictions` it is beside; returns its path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{predictions.split}_{name}.json"
    write_text(path, dumps_checksummed({**predictions.about, **found}))
    return path


def draw_corruptions(folder: Path, split: str, dataset: Dataset, found: dict[str, Any]) -> Path:
    """Writes SPLIT_corruptions.png: an image in each corruption and severity, with the top-1 below; returns its path."""
    album = Album(folder, split)
    names = list(found["corruptions"])
    with album.style():
        figure = Figure((1.2 * (1 + len(SEVERITIES)), 1.25 * len(names)), layout="constrained")
        axes = figure.subplots(len(names), 1 + len(SEVERITIES), squeeze=False)
        for row, name in zip(axes, names, strict=True):
            image = dataset.images[:1]
            shown = [image[0], *(corrupt(image, name, severity)[0] for severity in SEVERITIES)]
            for ax, picture, top1 in zip(row, shown, (found["clean"], *found["corruptions"][name]), strict=True):
                ax.imshow(picture)
                ax.set(xticks=[], yticks=[], xlabel=f"{top1:.1%}")
            row[0].set_ylabel(name.replace("_", " "))
        for ax, heading in zip(axes[0], ("as it is", *(f"severity {severity}" for severity in SEVERITIES)), strict=True):
            ax.set_title(heading)
        return folder / album.add("corruptions", figure, "One image in each corruption and severity, with the top-1").file


def _top1(run: Run, dataset: Dataset, images: np.ndarray, which: str | int, tta: str) -> float:
    logits = run.predict(dataclasses.replace(dataset, images=images), which, tta)
    return float((predicted_classes(logits) == dataset.labels).mean())


def _need_color(dataset: Dataset) -> None:
    if dataset.images.shape[-1] != 3:
        raise UserError(f"images with {dataset.images.shape[-1]} channel have no colour; this needs three channels")
