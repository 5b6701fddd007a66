"""One plain convolutional network, described by its config: every network of the write-ups is a spec of it."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.config import Activation, BatchNorm, BlockConfig, ModelConfig
from cifar_flax.models.batch_norm import BatchNormalization
from cifar_flax.models.layers import ACTIVATIONS, DENSE_INITIALIZERS, INITIALIZERS, Conv, max_pool, pool_features


class ConvNet(nn.Module):
    """Blocks of convolutions with pooling and dropout, then dense layers with dropout, then logits.

    Attributes:
      config: the network's spec.
      num_classes: width of the logits.
      dtype: of activations and matrix products; parameters are float32.
    """

    config: ModelConfig
    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps images, float [N, H, W, C], to logits, float32 [N, num_classes].

        `train` turns dropout on (rng collection "dropout") and lets BatchNorm use and update batch statistics.
        """
        c = self.config
        x = x.astype(self.dtype)
        for i, block in enumerate(c.blocks):
            x = _block(x, block, c, self.dtype, train, f"block{i}")
        x = pool_features(x, c.features)
        for i, layer in enumerate(c.dense):
            x = nn.Dense(layer.features, kernel_init=DENSE_INITIALIZERS[c.kernel_init], dtype=self.dtype, name=f"dense{i}")(x)
            x = ACTIVATIONS[layer.activation or c.activation](x)
            x = nn.Dropout(layer.dropout, deterministic=not train)(x)
        logits = nn.Dense(self.num_classes, kernel_init=DENSE_INITIALIZERS[c.kernel_init], dtype=self.dtype, name="logits")(x)
        return logits.astype(jnp.float32)


def _block(x: jax.Array, block: BlockConfig, model: ModelConfig, dtype: Any, train: bool, name: str) -> jax.Array:
    count = len(block.features)
    sizes, paddings = _each(block.kernel_sizes, count), _each(block.paddings, count)
    activations: tuple[Activation, ...] = _each(block.activations or (model.activation,), count)

    def batch_norm(x: jax.Array, name: str) -> jax.Array:
        return BatchNormalization(
            use_running_average=not train,
            momentum=model.batch_norm_momentum,
            epsilon=model.batch_norm_epsilon,
            dtype=dtype,
            name=name,
        )(x)

    for i in range(count):
        x = Conv(
            block.features[i],
            sizes[i],
            padding=str(paddings[i]),
            kernel_init=INITIALIZERS[model.kernel_init],
            use_bias=block.batch_norm is not BatchNorm.CONV,  # BatchNorm's own bias takes its place
            dtype=dtype,
            name=f"{name}_conv{i}",
        )(x)
        if block.batch_norm is BatchNorm.CONV:
            x = batch_norm(x, f"{name}_conv{i}_norm")
        x = ACTIVATIONS[activations[i]](x)
    if block.batch_norm is BatchNorm.BLOCK:
        x = batch_norm(x, f"{name}_norm")
    return nn.Dropout(block.dropout, deterministic=not train)(max_pool(x, block.pool))


def _each(values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    return values * count if len(values) == 1 else values
