"""The scores of predictions, from logits and labels; it imports NumPy alone, so that they need no JAX."""

from dataclasses import dataclass
from typing import Any

import numpy as np

TOP_K = (1, 2, 3, 5)
KERAS_EPSILON = 1e-7  # keras.backend.epsilon(), which the recipe of `batch_f1` adds to its denominators
Array = Any  # a NumPy or a JAX array


@dataclass(frozen=True)
class Reliability:
    """Calibration: `ece` in [0, 1]; for each bin its mean confidence, accuracy and number of images, [bins] each."""

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
    temperature: float = 1.0,
) -> dict[str, Any]:
    """Scores predictions.

    An image whose logits hold a NaN has no prediction: it counts as wrong.

    Args:
      logits: float32 [N, C].
      labels: int32 [N], in [0, C).
      class_names: one a class, [C].
      coarse_names: one a superclass; empty where there are none.
      coarse_of_fine: the superclass of each class, [C], -1 for none; empty without superclasses.
      temperature: what logits are divided by before they become the probabilities that are shown.

    Returns:
      n: number of images.
      loss: mean negative log likelihood, nats, of the logits as they are, as in training; NaN or inf where a network has
        diverged, as then are the scores of probabilities.
      top1, top2, top3, top5: shares whose label is among the k highest logits; ties go to the lower class.
      macro_f1, macro_precision, macro_recall: means over the classes that occur among labels or predictions, with 0/0 taken as
        0: scikit-learn's conventions with `zero_division=0`.
      temperature: as given.
      ece, brier: of the probabilities that are shown: see `reliability`; their mean squared distance from the one-hot label, in
        [0, 2].
      ece_uncalibrated: as `ece`, at a temperature of 1.
      superclass_top1: share whose predicted class is of the label's superclass; of labels with one; only where there are some.
      per_superclass: name -> accuracy, support; only where there are superclasses.
      per_class: name -> accuracy (which is recall), precision, f1, support (images of the class).

    References:
      Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950, eq. 2.
    """
    as_they_are = log_softmax(logits)
    probs = np.exp(log_softmax(logits / np.float32(temperature)))
    of_label = probs[np.arange(len(labels)), labels]
    rank, predicted = label_rank(logits, labels), predicted_classes(logits)
    classes = ClassScores.of(predicted, labels, len(class_names))
    result: dict[str, Any] = {
        "n": len(labels),
        "loss": -float(as_they_are[np.arange(len(labels)), labels].mean()),
        **{f"top{k}": float((rank < min(k, len(class_names))).mean()) for k in TOP_K},
        **{f"macro_{name}": classes.macro(name) for name in ("f1", "precision", "recall")},
        "temperature": temperature,
        "ece": _ece(probs, labels),
        "ece_uncalibrated": _ece(np.exp(as_they_are), labels),
        "brier": float(((probs**2).sum(1) - 2 * of_label + 1).mean()),
    }
    if coarse_names:
        superclass = np.array(coarse_of_fine)
        counted = superclass[labels] >= 0
        true, guessed = superclass[labels[counted]], predicted[counted]
        right = (guessed >= 0) & (superclass[guessed] == true)
        images = np.bincount(true, minlength=len(coarse_names))
        accuracy = _ratio(np.bincount(true, right, len(coarse_names)), images)
        result["superclass_top1"] = float(right.mean()) if len(right) else 0.0
        result["per_superclass"] = _table(coarse_names, accuracy=accuracy, support=images)
    columns = {"accuracy": classes.recall, "precision": classes.precision, "f1": classes.f1, "support": classes.support}
    result["per_class"] = _table(class_names, **columns)
    return result


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class, float64 [C] each; 0/0 is 0, as in scikit-learn with `zero_division=0`.

    Attributes:
      precision, recall, f1: in [0, 1].
      support: int [C], images of the class.
      predicted: int [C], images taken for the class.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> "ClassScores":
        """Counts predictions, int [N] with -1 for none, against labels, int32 [N]."""
        hits = np.bincount(labels[predicted == labels], minlength=num_classes)
        guesses, support = (
            np.bincount(predicted[predicted >= 0], minlength=num_classes),
            np.bincount(labels, minlength=num_classes),
        )
        return cls(_ratio(hits, guesses), _ratio(hits, support), _ratio(2 * hits, support + guesses), support, guesses)

    def macro(self, name: str) -> float:
        """The mean of "precision", "recall" or "f1" over the classes that occur among the labels or the predictions."""
        values: np.ndarray = getattr(self, name)
        return float(values[self.support + self.predicted > 0].mean())


def informative_top_k(num_classes: int) -> list[int]:
    """The k of TOP_K whose accuracy says something: of three classes, the label is among the three likeliest in any case."""
    return [k for k in TOP_K if k < max(num_classes, 2)]


def label_rank(logits: Array, labels: Array) -> Array:
    """The number of classes ranked before the label, 0 where the label is the prediction; for NumPy and, traced, JAX arrays.

    Ties go to the lower class, as in a stable sort. Where a logit is NaN all classes are before it, so that a network that has
    diverged is never right.

    Args:
      logits: float32 [N, C].
      labels: int32 [N], in [0, C).

    Returns:
      int32 [N], in [0, C].
    """
    xp = logits.__array_namespace__()
    of_label, column = xp.take_along_axis(logits, labels[:, None], axis=1), labels[:, None]
    before = (logits > of_label) | ((logits == of_label) & (xp.arange(logits.shape[1]) < column))
    return xp.where(xp.isnan(logits).any(1), logits.shape[1], before.sum(1)).astype(xp.int32)


def predicted_classes(logits: np.ndarray) -> np.ndarray:
    """The class with the highest logit, for float32 [N, C]: int [N]; the lowest of those that tie, -1 where a logit is NaN."""
    return np.where(np.isnan(logits).any(1), -1, logits.argmax(1))


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts images by true class, a row each, and predicted class, a column each: int64 [C, C].

    Args:
      predicted: int [N], in [0, C), or -1 for an image without prediction, which is left out.
      labels: int32 [N], in [0, C).
      num_classes: C, whether or not all of them occur.
    """
    valid = predicted >= 0
    cells = labels[valid].astype(np.int64) * num_classes + predicted[valid]
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


def batch_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 over a batch of the event "this class has more than half of the probability", all classes counted at once.

    This is the F1 function that Keras users copied from one another after Keras 2.0 dropped its batch-wise metrics. An image
    without a class above one half is no positive: it lowers recall but not precision.

    Args:
      logits: float32 [N, C].
      labels: int32 [N], in [0, C).
    """
    positive = probabilities(logits) > 0.5
    hits = positive[np.arange(len(labels)), labels].sum()
    precision, recall = hits / (positive.sum() + KERAS_EPSILON), hits / (len(labels) + KERAS_EPSILON)
    return float(2 * precision * recall / (precision + recall + KERAS_EPSILON))


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of float32 [N, C] over a temperature, row by row: float32 [N, C]; NaN where a row holds NaN or +inf."""
    return np.exp(log_softmax(logits / np.float32(temperature))).astype(np.float32)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax of float32 [N, C], row by row: float64 [N, C]; NaN where a row holds NaN or +inf."""
    with np.errstate(invalid="ignore"):
        shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def _ece(probs: np.ndarray, labels: np.ndarray) -> float:
    return reliability(probs, labels).ece if np.isfinite(probs).all() else float("nan")


def _ratio(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.divide(part, total, out=np.zeros(len(total)), where=total > 0)


def _table(names: tuple[str, ...], **columns: np.ndarray) -> dict[str, dict[str, float | int]]:
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return {name: dict(zip(columns, row, strict=True)) for name, row in zip(names, rows, strict=True)}
