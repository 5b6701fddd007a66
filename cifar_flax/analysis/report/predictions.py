"""What a checkpoint says of a split, and the files it is kept in: RUN/report/SPLIT.json and what lies beside it."""

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
from cifar_flax.run import Run


@dataclass(frozen=True)
class Predictions:
    """The logits of one checkpoint for one split.

    Attributes:
      split: "train", "validation" or "test".
      step: of the checkpoint.
      tta: test-time augmentation, as in `Run.predict`.
      logits: float32 [N, C].
      labels: int32 [N].
    """

    split: str
    step: int
    tta: str
    logits: np.ndarray
    labels: np.ndarray

    @property
    def about(self) -> dict[str, Any]:
        """What they are of, as the JSON files of a report say it."""
        return {"split": self.split, "checkpoint": self.step, "tta": self.tta}


def predict_split(run: Run, split: str, which: str | int = "best", tta: str = "none") -> tuple[Predictions, Dataset]:
    """Runs a checkpoint on every image of a split once; returns the images too.

    Raises:
      UserError: as `Run.variables`, `Run.dataset` and `Run.predict`.
    """
    step = run.hold(which)
    dataset = run.dataset(split)
    return Predictions(split, step, tta, run.predict(dataset, step, tta), dataset.labels), dataset


def write_predictions(run: Run, found: Predictions, scores: dict[str, Any]) -> Path:
    """Writes SPLIT_predictions.npz, SPLIT_confusion.npy (int64 [C, C], a row a true class) and, last, SPLIT.json.

    Args:
      run: whose `report` folder they go to.
      found: the predictions.
      scores: of theirs, by `Run.score`; those that are not finite become null.

    Returns:
      The path of SPLIT.json.
    """
    folder = run.workdir / "report"
    predictions, confusion = predictions_file(run, found.split), folder / f"{found.split}_confusion.npy"
    save_predictions(predictions, found)
    buffer = io.BytesIO()
    np.save(buffer, confusion_matrix(predicted_classes(found.logits), found.labels, found.logits.shape[1]))
    write_bytes(confusion, buffer.getvalue())
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in scores.items()}
    names = {"confusion": confusion.name, "predictions": predictions.name}
    path = folder / f"{found.split}.json"
    write_text(path, json.dumps(with_checksum({**found.about, **names, **finite}), indent=2, allow_nan=False) + "\n")
    return path


def predictions_file(run: Run, split: str) -> Path:
    """Where `write_predictions` keeps the logits."""
    return run.workdir / "report" / f"{split}_predictions.npz"


def save_predictions(path: Path, found: Predictions) -> None:
    """Writes logits, labels and what they are of as one .npz file."""
    # Through memory: np.savez itself, cut short by a full disk, raises an OSError that does not say so.
    arrays = io.BytesIO()
    np.savez(arrays, logits=found.logits, labels=found.labels, sha256=_digest(found), **found.about)
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, arrays.getvalue())


def read_predictions(path: Path) -> Predictions | None:
    """What `save_predictions` wrote; None where there is nothing, or nothing that can be read."""
    try:
        with np.load(path) as arrays:
            split, step, tta = str(arrays["split"]), int(arrays["checkpoint"]), str(arrays["tta"])
            found = Predictions(split, step, tta, arrays["logits"], arrays["labels"])
            # The zip's own CRC is looked at only by those who read to the end, which a damaged shape can prevent.
            return found if "sha256" not in arrays or str(arrays["sha256"]) == _digest(found) else None
    except Exception:  # a damaged archive surfaces as whatever the layer that read it raises
        return None


def _digest(found: Predictions) -> str:
    """SHA-256 over what the predictions are of, and over dtype, shape and bytes of both arrays."""
    sha = hashlib.sha256(str(found.about).encode())
    for array in (found.logits, found.labels):
        sha.update(f"{array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
