"""What a checkpoint says of a split, and the files it is kept in: RUN/report/SPLIT.json and what lies beside it."""

import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cifar_flax.atomic import write_bytes, write_text
from cifar_flax.data.dataset import Dataset
from cifar_flax.run import Run
from cifar_flax.scores import confusion_matrix, predicted_classes


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
    folder.mkdir(exist_ok=True)
    # Through memory: np.save itself, cut short by a full disk, raises an OSError that does not say so.
    confusion, arrays = io.BytesIO(), io.BytesIO()
    np.save(confusion, confusion_matrix(predicted_classes(found.logits), found.labels, found.logits.shape[1]))
    np.savez(arrays, logits=found.logits, labels=found.labels, checkpoint=found.step, tta=found.tta)
    names = {"confusion": f"{found.split}_confusion.npy", "predictions": _file(found.split)}
    write_bytes(folder / names["confusion"], confusion.getvalue())
    write_bytes(folder / names["predictions"], arrays.getvalue())
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in scores.items()}
    about = {"split": found.split, "checkpoint": found.step, "tta": found.tta}
    path = folder / f"{found.split}.json"
    write_text(path, json.dumps({**about, **names, **finite}, indent=2, allow_nan=False) + "\n")
    return path


def saved_predictions(run: Run, split: str) -> Predictions | None:
    """What `write_predictions` last wrote for a split; None where there is nothing, or nothing that can be read."""
    try:
        with np.load(run.workdir / "report" / _file(split)) as arrays:
            step, tta = int(arrays["checkpoint"]), str(arrays["tta"])
            return Predictions(split, step, tta, arrays["logits"], arrays["labels"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _file(split: str) -> str:
    return f"{split}_predictions.npz"
