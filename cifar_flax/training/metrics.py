"""Metrics that accumulate over batches, on the device."""

import jax
import jax.numpy as jnp
from clu import metrics
from flax import struct

TOP_K = (1, 2, 3, 5)
NAMES = ("loss", *(f"top{k}" for k in TOP_K))


@struct.dataclass
class Metrics(metrics.Collection):
    """Means over examples: cross-entropy in nats, and the shares whose label is among the k highest logits, in [0, 1]."""

    loss: metrics.Average.from_output("loss")  # type: ignore[valid-type]
    top1: metrics.Average.from_output("top1")  # type: ignore[valid-type]
    top2: metrics.Average.from_output("top2")  # type: ignore[valid-type]
    top3: metrics.Average.from_output("top3")  # type: ignore[valid-type]
    top5: metrics.Average.from_output("top5")  # type: ignore[valid-type]


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
    hits = {f"top{k}": (rank < k).astype(jnp.float32) for k in TOP_K}
    return Metrics.single_from_model_output(loss=losses, mask=mask, **hits)


def means(metrics: Metrics) -> dict[str, float]:
    """The means as Python floats, divided on the host so that 702 of 10,000 is 0.0702."""
    host = jax.device_get(metrics)
    return {name: float(average.total) / int(average.count) for name, average in vars(host).items() if name in NAMES}


def label_rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """How many classes come before the label: int32 [N], 0 where it is the first guess.

    Ties are broken towards the lower class, as a stable sort does; a NaN counts as before everything, so that a network that
    has diverged is never right.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    before = (logits > own) | ((logits == own) & (jnp.arange(logits.shape[1]) < labels[:, None])) | jnp.isnan(logits)
    return jnp.where(jnp.isnan(own[:, 0]), logits.shape[1], before.sum(1)).astype(jnp.int32)
