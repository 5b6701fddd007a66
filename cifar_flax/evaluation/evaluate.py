"""Evaluation of a split on the device: every image counts exactly once."""

from collections.abc import Callable
from functools import reduce

import jax
from jax.sharding import Mesh

from cifar_flax.data.batches import masked_batches, round_up_batch
from cifar_flax.evaluation.metrics import Metrics, means
from cifar_flax.models import Variables
from cifar_flax.runtime.devices import DeviceData, put_global, sharded
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
      loss (mean cross-entropy, nats), top1, top2, top3, top5, f1 and batch_f1 (in [0, 1]; see `metrics`), and n, the number
      of images. Of them all only `batch_f1` depends on `batch_size`.
    """
    batch_size = round_up_batch(batch_size, len(data.labels), mesh.size)
    batches = []
    for indices, mask in masked_batches(len(data.labels), batch_size):
        batches.append(step(variables, data, *put_global((indices, mask), sharded(mesh))))
        if jax.process_count() > 1:  # on CPUs, two batches that are exchanged at once lock each other
            jax.block_until_ready(batches[-1])
        between_batches()
    metrics = reduce(Metrics.merge, jax.device_get(batches))
    return {**means(metrics), "n": int(metrics.loss.count)}
