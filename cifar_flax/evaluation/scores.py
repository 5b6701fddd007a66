"""From logits and labels to the numbers of a report, in NumPy alone: saved predictions can be scored where there is no JAX."""

from dataclasses import dataclass
from typing import Any

import numpy as np

TOP_K = (1, 2, 3, 5)


@dataclass(frozen=True)
class Reliability:
    """How far confidence is from accuracy: `ece` in [0, 1]; mean confidence, accuracy and images of each bin, [bins]."""

    ece: float
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def scores(
    logits: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    coarse_names: tuple[str, ...] = (),
    coarse_of_fine: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Scores predictions.

    An image whose logits hold a NaN has no prediction: it counts as wrong.

    Args:
      logits: float32 [N, C].
      labels: int32 [N], in [0, C).
      class_names: one a class, [C].
      coarse_names: one a superclass; empty where there are none.
      coarse_of_fine: the superclass of each class, [C]; empty without.

    Returns:
      n: number of images.
      loss: mean negative log likelihood, nats; NaN or inf where a network has diverged, as then are `ece` and `brier`.
      top1, top2, top3, top5: shares whose label is among the k highest logits; ties go to the lower class.
      macro_f1, macro_precision, macro_recall: means over the classes that occur among labels or predictions; what would be 0/0
        is 0. Both are scikit-learn's conventions with `zero_division=0`.
      ece: see `reliability`.
      brier: mean squared distance of the probabilities from the one-hot label, in [0, 2].
      superclass_top1: share whose predicted class is of the label's superclass; only where there are superclasses.
      per_superclass: name -> accuracy, support; likewise.
      per_class: name -> accuracy (which is recall), precision, f1, support (images of the class).

    References:
      Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950, eq. 2.
    """
    classes = len(class_names)
    log_probs = _log_softmax(logits)
    probs, own = np.exp(log_probs), log_probs[np.arange(len(labels)), labels]
    rank, predicted = label_rank(logits, labels), predicted_classes(logits)
    confusion = confusion_matrix(predicted, labels, classes)
    hits, guesses, support = np.diag(confusion), confusion.sum(0), np.bincount(labels, minlength=classes)
    recall, precision, f1 = _ratio(hits, support), _ratio(hits, guesses), _ratio(2 * hits, support + guesses)
    occurring = support + guesses > 0
    found: dict[str, Any] = {
        "n": len(labels),
        "loss": -float(own.mean()),
        **{f"top{k}": float((rank < min(k, classes)).mean()) for k in TOP_K},
        "macro_f1": float(f1[occurring].mean()),
        "macro_precision": float(precision[occurring].mean()),
        "macro_recall": float(recall[occurring].mean()),
        "ece": reliability(probs, labels).ece if np.isfinite(probs).all() else float("nan"),
        "brier": float(((probs**2).sum(1) - 2 * np.exp(own) + 1).mean()),
    }
    if coarse_names:
        upper = np.array(coarse_of_fine)
        right = (predicted >= 0) & (upper[predicted] == upper[labels])
        images = np.bincount(upper[labels], minlength=len(coarse_names))
        accuracy = _ratio(np.bincount(upper[labels], right, len(coarse_names)), images)
        found["superclass_top1"] = float(right.mean())
        found["per_superclass"] = _table(coarse_names, accuracy=accuracy, support=images)
    found["per_class"] = _table(class_names, accuracy=recall, precision=precision, f1=f1, support=support)
    return found


def label_rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes come before the label, int [N]: `training.metrics.label_rank` on the host, ties and NaN alike.

    Args:
      logits: float32 [N, C].
      labels: int32 [N], in [0, C).
    """
    own, column = logits[np.arange(len(labels)), labels][:, None], labels[:, None]
    before = (logits > own) | ((logits == own) & (np.arange(logits.shape[1]) < column)) | np.isnan(logits)
    return np.where(np.isnan(own[:, 0]), logits.shape[1], before.sum(1))


def predicted_classes(logits: np.ndarray) -> np.ndarray:
    """The class with the highest of the logits, float32 [N, C]: int [N], the lowest of those that tie, -1 beside a NaN."""
    return np.where(np.isnan(logits).any(1), -1, logits.argmax(1))


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """How many images of each class, a row each, were taken for which class, a column each: int64 [C, C].

    Args:
      predicted: int [N], in [0, C), or -1 for an image without prediction, which is left out.
      labels: int32 [N], in [0, C).
      num_classes: C, whether or not all of them occur.
    """
    known = predicted >= 0
    cells = labels[known].astype(np.int64) * num_classes + predicted[known]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def reliability(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Expected calibration error with equal-width confidence bins, each closed on the right.

    Args:
      probs: float [N, C], each row summing to 1.
      labels: int32 [N], in [0, C).
      bins: number of bins over (0, 1]; 15 as in the paper.

    Returns:
      Reliability: per bin float64 [bins] `confidence` and `accuracy`, 0 where it is empty, and int64 [bins] `count`.

    Raises:
      ValueError: shapes disagree, or a row of `probs` does not sum to 1 within 1e-3.

    References:
      Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3.
    """
    if probs.ndim != 2 or labels.shape != probs.shape[:1]:
        raise ValueError(f"probs {probs.shape} and labels {labels.shape}, expected (N, C) and (N,)")
    if not (np.abs(probs.sum(1) - 1) <= 1e-3).all():
        raise ValueError("a row of probs does not sum to 1; are these logits?")
    confidence, right = probs.max(1), probs.argmax(1) == labels
    which = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    count = np.bincount(which, minlength=bins)
    confidences, hits = np.bincount(which, confidence, bins), np.bincount(which, right, bins)
    ece = float(np.abs(hits - confidences).sum() / len(labels))
    return Reliability(ece, _ratio(confidences, count), _ratio(hits, count), count)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Float64 [N, C], row by row; NaN where a row holds NaN or +inf."""
    with np.errstate(invalid="ignore"):
        shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _table(names: tuple[str, ...], **columns: np.ndarray) -> dict[str, dict[str, float | int]]:
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return {name: dict(zip(columns, row, strict=True)) for name, row in zip(names, rows, strict=True)}
