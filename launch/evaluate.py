"""Scores a run on a split: python launch/evaluate.py --run=runs/wide --split=test."""

import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from cifar_flax import cli
from cifar_flax.atomic import write_bytes, write_text

if TYPE_CHECKING:
    import numpy as np

_RUN = flags.DEFINE_string("run", None, "run directory", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "images to evaluate on")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")


def main() -> None:
    """Evaluates, prints the scores and writes them to RUN/report/SPLIT.json, beside the predictions they come from."""
    from cifar_flax.run import Run  # after the flags are checked: a typo should not wait for JAX

    run, split = Run.open(_RUN.value), _SPLIT.value
    step = run.step(_CHECKPOINT.value)
    dataset = run.dataset(split)
    logits = run.predict(dataset, step)
    scores = run.score(logits, dataset.labels)
    report = run.workdir / "report" / f"{split}.json"
    _write(report, {"split": split, "checkpoint": step, **scores}, logits, dataset.labels)
    guesses = "  ".join(f"top-{k} {scores[f'top{k}']:.2%}" for k in (1, 2, 3, 5))
    superclass = f"superclass {scores['superclass_top1']:.2%}  " if "superclass_top1" in scores else ""
    print(f"{split}: {guesses}  loss {scores['loss']:.4f}  ({scores['n']:,} images, checkpoint {step})")
    print(f"macro F1 {scores['macro_f1']:.2%}  {superclass}calibration error {scores['ece']:.2%} -> {report}")


def _write(report: Path, scores: dict[str, Any], logits: "np.ndarray", labels: "np.ndarray") -> None:
    """Writes the scores, which name the other two files, last.

    Args:
      report: SPLIT.json, with null for scores that are not finite.
      scores: what goes into it.
      logits: float32 [N, C], and
      labels: int32 [N], for SPLIT_predictions.npz; SPLIT_confusion.npy is int64 [C, C], a row a true class.
    """
    import numpy as np

    from cifar_flax.scores import confusion_matrix, predicted_classes

    # Through memory: np.save itself, cut short by a full disk, raises an OSError that does not say so.
    confusion, predictions = io.BytesIO(), io.BytesIO()
    np.save(confusion, confusion_matrix(predicted_classes(logits), labels, logits.shape[1]))
    np.savez(predictions, logits=logits, labels=labels)
    report.parent.mkdir(exist_ok=True)
    names = {"confusion": f"{report.stem}_confusion.npy", "predictions": f"{report.stem}_predictions.npz"}
    write_bytes(report.with_name(names["confusion"]), confusion.getvalue())
    write_bytes(report.with_name(names["predictions"]), predictions.getvalue())
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in scores.items()}
    write_text(report, json.dumps({**names, **finite}, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    cli.run(main)
