"""Logits of a split: the forward pass that evaluation, analysis and comparison read."""

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cifar_flax.data.batches import masked_batches, round_up_batch
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.models import Variables
from cifar_flax.runtime.devices import compiler_options, replicated, sharded

TTA = ("none", "flip", "flip+shift")
PredictStep = Callable[[Variables, jax.Array, Any], jax.Array]


def make_predict_step(model: nn.Module, preprocessing: Preprocessing, dtype: Any, mesh: Mesh, tta: str = "none") -> PredictStep:
    """Builds the jitted (variables, images uint8 [M, H, W, C], indices int32 [N]) -> logits float32 [N, num_classes].

    Args:
      model: the network.
      preprocessing: of the run.
      dtype: of activations.
      mesh: the devices.
      tta: test-time augmentation, one of `TTA`: the logits are the weighted mean of those of the views that `views` gives.
    """

    def predict_step(variables: Variables, images: jax.Array, indices: jax.Array) -> Any:
        normal = preprocessing.normalize(images[indices])
        logits: Any = (weight * jnp.asarray(model.apply(variables, view, train=False)) for view, weight in views(normal, tta))
        return sum(logits)

    every, split = replicated(mesh), sharded(mesh)
    return jax.jit(
        predict_step,
        in_shardings=(every, every, split),
        out_shardings=every,
        compiler_options=compiler_options(dtype),
    )


def views(images: jax.Array, tta: str) -> Iterator[tuple[jax.Array, float]]:
    """Yields what the network is to see of each image, [N, H, W, C], with weights that sum to 1.

    "none" is the image; "flip" the image and its mirror image, half each; "flip+shift" those two with half the weight, and with
    the other half both moved by one pixel to the upper left and both to the lower right, the edge reflected into the gap.

    References:
      Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498, 2024, section 3.6: its multi-crop evaluation.
    """
    moved = [images]
    if tta == "flip+shift":
        height, width = images.shape[1:3]
        padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        moved += [padded[:, corner : corner + height, corner : corner + width] for corner in (2, 0)]
    for view, weight in zip(moved, (1.0,) if len(moved) == 1 else (0.5, 0.25, 0.25), strict=True):
        if tta == "none":
            yield view, weight
        else:
            yield view, weight / 2
            yield view[:, :, ::-1], weight / 2


def predict(step: PredictStep, variables: Variables, images: jax.Array, batch_size: int, mesh: Mesh) -> np.ndarray:
    """The logits of all images, float32 [N, num_classes], in their order.

    Args:
      step: from `make_predict_step`.
      variables: {"params", "batch_stats"}.
      images: uint8 [N, H, W, C], on the devices.
      batch_size: images at a time over all devices; rounded up to a multiple of their number.
      mesh: the devices.
    """
    batch_size = round_up_batch(batch_size, len(images), mesh.size)
    batches = [step(variables, images, indices) for indices, _ in masked_batches(len(images), batch_size)]
    return np.concatenate(jax.device_get(batches))[: len(images)]
