"""The metrics of a training's records: of its batches, accumulated on the device, and of the validation split."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics
from flax import struct

from cifar_flax.evaluation.calibration import fit_temperature
from cifar_flax.evaluation.scores import TOP_K, ClassScores, batch_f1, label_rank, log_softmax, predicted_classes


@struct.dataclass
class Metrics(metrics.Collection):
    """Means over the training images since the epoch began: losses, and the shares whose label is in the top k."""

    loss: metrics.Average.from_output("loss")  # type: ignore[valid-type]
    cross_entropy: metrics.Average.from_output("cross_entropy")  # type: ignore[valid-type]
    top1: metrics.Average.from_output("top1")  # type: ignore[valid-type]
    top2: metrics.Average.from_output("top2")  # type: ignore[valid-type]
    top3: metrics.Average.from_output("top3")  # type: ignore[valid-type]
    top5: metrics.Average.from_output("top5")  # type: ignore[valid-type]


def batch_metrics(losses: jax.Array, logits: jax.Array, labels: jax.Array, targets: jax.Array) -> Metrics:
    """The metrics of one training batch; `compute()` of the result gives its means, float32 [].

    Args:
      losses: float32 [N], as optimised.
      logits: float32 [N, C].
      labels: int32 [N].
      targets: float32 [N, C], each row a distribution: one-hot, or mixed by mixup or CutMix; not smoothed.
    """
    rank = label_rank(logits, labels)
    hits = {f"top{k}": (rank < min(k, logits.shape[1])).astype(jnp.float32) for k in TOP_K}
    cross_entropies = optax.softmax_cross_entropy(logits, targets)
    return Metrics.single_from_model_output(loss=losses, cross_entropy=cross_entropies, **hits)


def means(metrics: Metrics) -> dict[str, float]:
    """The metrics as Python floats, divided on the host so that 702 of 10,000 is 0.0702."""
    return {name: float(value) for name, value in jax.device_get(metrics).compute().items()}


def validation_scores(logits: np.ndarray, labels: np.ndarray, batch_size: int) -> dict[str, float]:
    """The scores that a training records of its validation split after each epoch.

    Args:
      logits: float32 [N, C]; an image with a NaN among its logits has no prediction and counts as wrong.
      labels: int32 [N], in [0, C).
      batch_size: images in a batch of `batch_f1`, which alone depends on it.

    Returns:
      loss: mean cross-entropy, nats.
      top1, top2, top3, top5: shares whose label is among the k highest logits; ties go to the lower class.
      f1: macro F1, as scikit-learn defines it.
      temperature: at which these labels are likeliest; see `calibration.fit_temperature`.
      batch_f1: mean over the batches of `scores.batch_f1`.
    """
    rank, classes = label_rank(logits, labels), logits.shape[1]
    starts = range(0, len(labels), batch_size)
    return {
        "loss": -float(log_softmax(logits)[np.arange(len(labels)), labels].mean()),
        **{f"top{k}": float((rank < min(k, classes)).mean()) for k in TOP_K},
        "temperature": fit_temperature(logits, labels),
        "f1": ClassScores.of(predicted_classes(logits), labels, classes).macro("f1"),
        "batch_f1": float(np.mean([batch_f1(logits[at : at + batch_size], labels[at : at + batch_size]) for at in starts])),
    }
