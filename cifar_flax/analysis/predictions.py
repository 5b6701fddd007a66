"""Predictions of a checkpoint on a split, and their files: RUN/report/NAME.json and those beside it, NAME as `Predictions`."""

import hashlib
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cifar_flax.data.dataset import Dataset
from cifar_flax.evaluation.scores import confusion_matrix, predicted_classes
from cifar_flax.files.atomic import write_bytes, write_text
from cifar_flax.files.checksum import with_checksum
from cifar_flax.files.folder import make_folder, open_regular_bytes
from cifar_flax.run import Run


@dataclass(frozen=True)
class Predictions:
    """The logits of one checkpoint for one split.

    Attributes:
      split: "train", "validation" or "test".
      step: step of the checkpoint.
      tta: test-time augmentation, as in `Run.logits`.
      logits: float32 [N, C].
      labels: int32 [N].
      ema: whether they are of the averaged weights; True where the run kept no average.
    """

    split: str
    step: int
    tta: str
    logits: np.ndarray
    labels: np.ndarray
    ema: bool = True

    @property
    def name(self) -> str:
        """The name of its files: "test", or with what differs from the plain view, "test_flip", "test_raw"."""
        return "_".join([self.split, *[self.tta] * (self.tta != "none"), *["raw"] * (not self.ema)])

    @property
    def sha256(self) -> str:
        """SHA-256 of split, checkpoint and test-time augmentation, and of dtype, shape and bytes of both arrays."""
        sha = hashlib.sha256(str(self.about).encode())
        for array in (self.logits, self.labels):
            sha.update(f"{array.dtype} {array.shape}".encode())
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()

    @property
    def about(self) -> dict[str, Any]:
        """Split, checkpoint, test-time augmentation and weights, as the JSON files of a report name them."""
        return {"split": self.split, "checkpoint": self.step, "tta": self.tta, "ema": self.ema}


def predict_split(
    run: Run, split: str, which: str | int = "best", tta: str = "none", ema: bool = True
) -> tuple[Predictions, Dataset]:
    """Runs a checkpoint on every image of a split once; returns the images too.

    Raises:
      UserError: as `Run.network`, `Run.dataset` and `Network.logits`.
    """
    network, dataset = run.network(which, ema), run.dataset(split)
    step = int(network.step or 0)
    return Predictions(split, step, tta, network.logits(dataset.images, tta), dataset.labels, ema or not run.has_ema), dataset


def score(run: Run, predictions: Predictions, dataset: Dataset) -> dict[str, Any]:
    """The scores of predictions; where those are of averaged weights, with the scores of the weights of the last update."""
    scores = run.score(predictions.logits, predictions.labels, predictions.step, predictions.ema)
    if run.has_ema and predictions.ema:
        raw = run.network(predictions.step, ema=False).evaluate(dataset, predictions.tta)
        scores["raw_weights"] = {name: raw[name] for name in ("loss", "top1", "top2", "top3", "top5", "macro_f1")}
    return scores


def write_predictions(run: Run, predictions: Predictions, scores: dict[str, Any], folder: Path | None = None) -> Path:
    """Writes NAME_predictions.npz, NAME_confusion.npy (int64 [C, C], a row per true class) and, last, NAME.json.

    A page NAME.html of other scores goes: `write_report` makes one of these.

    Args:
      run: the run that predicted.
      predictions: from `predict_split`.
      scores: their scores, from `score` or `Run.score`; those that are not finite become null.
      folder: they go to, `run.report_folder` by default.

    Returns:
      The path of NAME.json.
    """
    arrays = predictions_path(folder or run.report_folder, predictions.name)
    confusion = arrays.with_name(f"{predictions.name}_confusion.npy")
    save_predictions(arrays, predictions)
    logits, labels = predictions.logits, predictions.labels
    buffer = io.BytesIO()
    np.save(buffer, confusion_matrix(predicted_classes(logits), labels, logits.shape[1]))
    write_bytes(confusion, buffer.getvalue())
    files = {"confusion": confusion.name, "predictions": arrays.name}
    path = arrays.with_name(f"{predictions.name}.json")
    values = {**predictions.about, **files, **finite(scores)}
    text = json.dumps(with_checksum(values), indent=2, allow_nan=False) + "\n"
    if not path.exists() or path.read_bytes() != text.encode():
        path.with_suffix(".html").unlink(missing_ok=True)
    write_text(path, text)
    return path


def finite(value: Any) -> Any:
    """JSON has no form for numbers that are not finite: they become null."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def predictions_path(folder: Path, name: str) -> Path:
    """The file of a report folder in which `write_predictions` saves the logits; a split is the name of its plain view."""
    return folder / f"{name}_predictions.npz"


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Saves predictions as one .npz file with a SHA-256; makes its folder where it is missing."""
    # Through memory: np.savez itself, cut short by a full disk, raises an OSError that does not say so.
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {"logits": predictions.logits, "labels": predictions.labels}
    np.savez(buffer, **arrays, sha256=predictions.sha256, **predictions.about)
    make_folder(path.parent)
    write_bytes(path, buffer.getvalue())


def read_predictions(path: Path) -> Predictions | None:
    """Reads a file of `save_predictions`; None where it is missing, damaged, or of no such arrays."""
    try:
        with open_regular_bytes(path) as file, np.load(file) as arrays:
            if any(member.compress_type for member in arrays.zip.infolist()):
                return None  # a small one could unpack to more than the memory
            split, step, tta, ema = str(arrays["split"]), int(arrays["checkpoint"]), str(arrays["tta"]), bool(arrays["ema"])
            predictions = Predictions(split, step, tta, arrays["logits"], arrays["labels"], ema)
            # The zip's own CRC is checked only by readers that reach the end, which a damaged shape can prevent.
            return predictions if str(arrays["sha256"]) == predictions.sha256 and _fit(predictions) else None
    except Exception:  # a damaged archive surfaces as whatever the layer that read it raises
        return None


def _fit(predictions: Predictions) -> bool:
    """Whether there is a row of logits a label, and a logit a class: a hash proves that a file is whole, and no more."""
    logits, labels = predictions.logits, predictions.labels
    if logits.dtype != np.float32 or logits.ndim != 2 or labels.dtype != np.int32 or labels.ndim != 1:
        return False
    return len(logits) == len(labels) > 0 and bool(np.all((labels >= 0) & (labels < logits.shape[1])))
