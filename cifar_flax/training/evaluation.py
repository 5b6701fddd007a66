"""Evaluation of a split on the device: every image counts exactly once."""

from collections.abc import Callable

from jax.sharding import Mesh

from cifar_flax.data.batches import masked_batches
from cifar_flax.models import Variables
from cifar_flax.training.devices import DeviceData
from cifar_flax.training.metrics import Metrics, means
from cifar_flax.training.step import EvalStep


def evaluate(
    step: EvalStep,
    variables: Variables,
    data: DeviceData,
    batch_size: int,
    mesh: Mesh,
    between_batches: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Scores `variables` on all of `data`.

    Args:
      step: from `make_eval_step`.
      variables: {"params", "batch_stats"}.
      data: the split, on the devices.
      batch_size: images at a time over all devices; rounded up to a multiple of their number.
      mesh: the devices.
      between_batches: called after each batch; what it raises ends the evaluation.

    Returns:
      loss (mean cross-entropy, nats), top1, top2, top3, top5 (shares in [0, 1]), and n, the number of images.
    """
    batch_size = -(-batch_size // mesh.size) * mesh.size
    metrics = Metrics.empty()
    for indices, mask in masked_batches(len(data.labels), batch_size):
        metrics = step(metrics, variables, data, indices, mask)
        between_batches()
    return {**means(metrics), "n": int(metrics.loss.count)}
