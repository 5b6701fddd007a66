"""Metrics that accumulate over batches, on the device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics
from flax import struct

from cifar_flax.evaluation.scores import TOP_K

STEP_NAMES = ("loss", *(f"top{k}" for k in TOP_K))
KERAS_EPSILON = 1e-7  # keras.backend.epsilon(), which the recipe of `BatchF1` adds to what it divides by


@struct.dataclass
class MacroF1(metrics.Metric):
    """F1 averaged over the classes that occur or are guessed, as `scores.scores` has it.

    Attributes:
      right: int32 [C], of each class the examples guessed right.
      guessed: int32 [C], the examples taken for it.
      actual: int32 [C], the examples that are of it.
    """

    right: jax.Array
    guessed: jax.Array
    actual: jax.Array

    @classmethod
    def from_model_output(cls, logits: jax.Array, labels: jax.Array, mask: jax.Array, **_: Any) -> "MacroF1":
        """Counts where `mask` is true; the guess is the first of the highest logits, and none beside a NaN."""
        classes = jnp.arange(logits.shape[1])
        guess = jnp.where(jnp.isnan(logits).any(1), -1, jnp.argmax(logits, axis=1))
        guessed = (guess[:, None] == classes) & mask[:, None]
        actual = (labels[:, None] == classes) & mask[:, None]
        return cls(*(which.sum(0, dtype=jnp.int32) for which in (guessed & actual, guessed, actual)))

    def merge(self, other: "MacroF1") -> "MacroF1":
        """The counts of both."""
        return MacroF1(self.right + other.right, self.guessed + other.guessed, self.actual + other.actual)

    def compute(self) -> np.floating[Any]:
        """In [0, 1], on the host."""
        seen = self.guessed + self.actual
        found: np.floating[Any] = np.mean((2 * self.right / np.maximum(seen, 1))[seen > 0])
        return found


@struct.dataclass
class BatchF1(metrics.Average):
    """Mean over batches of the F1 of "this class has more than half of the probability", all classes counted together.

    It is what the F1 function that Keras users pass from hand to hand shows, after the metrics that Keras itself dropped in
    version 2.0. An example without a class that likely is no guess: it lowers recall but not precision.
    """

    @classmethod
    def from_model_output(cls, logits: jax.Array, labels: jax.Array, mask: jax.Array, **_: Any) -> "BatchF1":
        """One batch; none where `mask` is true nowhere."""
        likely = (jax.nn.softmax(logits) > 0.5) & mask[:, None]
        right = jnp.take_along_axis(likely, labels[:, None], axis=1).sum(dtype=jnp.float32)
        precision = right / (likely.sum(dtype=jnp.float32) + KERAS_EPSILON)
        recall = right / (mask.sum(dtype=jnp.float32) + KERAS_EPSILON)
        return cls(2 * precision * recall / (precision + recall + KERAS_EPSILON), mask.any().astype(jnp.int32))


@struct.dataclass
class Metrics(metrics.Collection):
    """Of examples: cross-entropy in nats, the shares whose label is among the k highest logits, and two kinds of F1."""

    loss: metrics.Average.from_output("loss")  # type: ignore[valid-type]
    top1: metrics.Average.from_output("top1")  # type: ignore[valid-type]
    top2: metrics.Average.from_output("top2")  # type: ignore[valid-type]
    top3: metrics.Average.from_output("top3")  # type: ignore[valid-type]
    top5: metrics.Average.from_output("top5")  # type: ignore[valid-type]
    f1: MacroF1
    batch_f1: BatchF1

    @classmethod
    def empty(cls, num_classes: int) -> "Metrics":
        """Of no examples."""
        return batch_metrics(jnp.zeros(0), jnp.zeros((0, num_classes)), jnp.zeros(0, jnp.int32))

    def of_step(self) -> dict[str, jax.Array]:
        """What is worth keeping of a single batch: loss and top-k."""
        return {name: getattr(self, name).compute() for name in STEP_NAMES}


def batch_metrics(losses: jax.Array, logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> Metrics:
    """The metrics of one batch.

    Args:
      losses: float32 [N].
      logits: float32 [N, C].
      labels: int32 [N].
      mask: bool [N], False for the examples that do not count; None counts all.
    """
    rank = label_rank(logits, labels)
    mask = jnp.ones(len(labels), bool) if mask is None else mask
    hits = {f"top{k}": (rank < min(k, logits.shape[1])).astype(jnp.float32) for k in TOP_K}
    return Metrics.single_from_model_output(loss=losses, logits=logits, labels=labels, mask=mask, **hits)


def means(metrics: Metrics) -> dict[str, float]:
    """The metrics as Python floats, divided on the host so that 702 of 10,000 is 0.0702."""
    return {name: float(value) for name, value in jax.device_get(metrics).compute().items()}


def label_rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """How many classes come before the label: int32 [N], 0 where it is the first guess.

    Ties are broken towards the lower class, as a stable sort does; a NaN counts as before everything, so that a network that
    has diverged is never right.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    before = (logits > own) | ((logits == own) & (jnp.arange(logits.shape[1]) < labels[:, None])) | jnp.isnan(logits)
    return jnp.where(jnp.isnan(own[:, 0]), logits.shape[1], before.sum(1)).astype(jnp.int32)
