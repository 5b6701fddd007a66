"""Logits of a split: the forward pass that evaluation, analysis and comparison read."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cifar_flax.data.batches import masked_batches
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.models import Variables
from cifar_flax.training.devices import compiler_options, replicated, sharded

PredictStep = Callable[[Variables, jax.Array, Any], jax.Array]


def make_predict_step(model: nn.Module, preprocessing: Preprocessing, dtype: Any, mesh: Mesh) -> PredictStep:
    """Builds the jitted (variables, images uint8 [M, H, W, C], indices int32 [N]) -> logits float32 [N, num_classes]."""

    def predict_step(variables: Variables, images: jax.Array, indices: jax.Array) -> Any:
        return model.apply(variables, preprocessing.normalize(images[indices] / jnp.float32(255)), train=False)

    every, split = replicated(mesh), sharded(mesh)
    return jax.jit(
        predict_step,
        in_shardings=(every, every, split),
        out_shardings=every,
        compiler_options=compiler_options(dtype),
    )


def predict(step: PredictStep, variables: Variables, images: jax.Array, batch_size: int, mesh: Mesh) -> np.ndarray:
    """The logits of all images, float32 [N, num_classes], in their order.

    Args:
      step: from `make_predict_step`.
      variables: {"params", "batch_stats"}.
      images: uint8 [N, H, W, C], on the devices.
      batch_size: images at a time over all devices; rounded up to a multiple of their number.
      mesh: the devices.
    """
    batch_size = -(-batch_size // mesh.size) * mesh.size
    batches = [step(variables, images, indices) for indices, _ in masked_batches(len(images), batch_size)]
    return np.concatenate(jax.device_get(batches))[: len(images)]
