"""A plain convolutional network; every network of the blog posts is a spec of it."""

from dataclasses import dataclass
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge, Le

from cifar_flax.config.registry import MODELS
from cifar_flax.config.specs import ModelSpec
from cifar_flax.config.types import (
    Activation,
    BatchNorm,
    Channels,
    ConfigBase,
    GlobalPool,
    Initializer,
    Kernel,
    Padding,
    Positive,
    UnitIntervalOpen,
)
from cifar_flax.errors import ConfigError
from cifar_flax.models.activations import ACTIVATIONS
from cifar_flax.models.batch_norm import batch_norm
from cifar_flax.models.convolution import Conv
from cifar_flax.models.dropout import Dropout
from cifar_flax.models.initializers import CONV_INITIALIZERS, DENSE_INITIALIZERS
from cifar_flax.models.pooling import global_pool, max_pool


@dataclass(slots=True)
class BlockConfig(ConfigBase):
    """Convolutions, each with its activation, then pooling and dropout. A tuple of one is used for every convolution."""

    features: tuple[Channels, ...] = (64,)  # output channels, one entry a convolution
    kernel_sizes: tuple[Kernel, ...] = (3,)
    paddings: tuple[Padding, ...] = (Padding.SAME,)
    activations: tuple[Activation, ...] = ()  # empty: the model's activation
    batch_norm: BatchNorm = BatchNorm.NONE
    pool: Annotated[int, Ge(1), Le(32)] = 2  # window and stride of max pooling, in pixels; 1 is none
    dropout: UnitIntervalOpen = 0.0  # after pooling


@dataclass(slots=True)
class DenseConfig(ConfigBase):
    """One hidden fully connected layer."""

    features: Channels = 512
    activation: Activation | None = None  # None: the model's activation
    dropout: UnitIntervalOpen = 0.0  # after the activation


@MODELS.register("convnet")
@dataclass(slots=True)
class ConvNet(ModelSpec):
    """Blocks of convolutions with pooling and dropout, then dense layers with dropout, then logits."""

    activation: Activation = Activation.RELU
    blocks: tuple[BlockConfig, ...] = ()
    global_pool: GlobalPool = GlobalPool.FLATTEN
    dense: tuple[DenseConfig, ...] = ()  # hidden layers, before the logits
    kernel_init: Initializer = Initializer.GLOROT_UNIFORM
    batch_norm_momentum: UnitIntervalOpen = 0.99  # of the running statistics: old * m + new * (1 - m)
    batch_norm_epsilon: Positive = 1e-3

    def build(self, num_classes: int, dtype: Any) -> nn.Module:
        """Makes the module."""
        return ConvNetModule(self, num_classes, dtype)

    def check(self) -> None:
        """Refuses blocks with other numbers of kernels, paddings or activations than of convolutions."""
        for i, block in enumerate(self.blocks):
            for name in ("kernel_sizes", "paddings", "activations"):
                given, wanted = len(getattr(block, name)), len(block.features)
                if given not in (1, wanted) and not (name == "activations" and given == 0):
                    raise ConfigError(f"blocks[{i}].{name}: {given} entries for {wanted} convolutions; give 1 or {wanted}")


class ConvNetModule(nn.Module):
    """The network that a `ConvNet` describes.

    Attributes:
      spec: its settings.
      num_classes: width of the logits.
      dtype: of activations and matrix products; parameters are float32.
    """

    spec: ConvNet
    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps images, float [N, H, W, C], to logits, float32 [N, num_classes].

        `train` turns dropout on (rng collection "dropout") and lets BatchNorm use and update batch statistics.
        """
        spec = self.spec
        kernel_init = DENSE_INITIALIZERS[spec.kernel_init]
        x = x.astype(self.dtype)
        for i, block in enumerate(spec.blocks):
            x = _block(x, block, spec, self.dtype, train, f"block{i}")
        x = global_pool(x, spec.global_pool)
        for i, layer in enumerate(spec.dense):
            x = nn.Dense(layer.features, kernel_init=kernel_init, dtype=self.dtype, name=f"dense{i}")(x)
            x = ACTIVATIONS[layer.activation or spec.activation](x)
            x = Dropout(layer.dropout, deterministic=not train)(x)
        logits = nn.Dense(self.num_classes, kernel_init=kernel_init, dtype=self.dtype, name="logits")(x)
        return logits.astype(jnp.float32)


def _block(x: jax.Array, block: BlockConfig, spec: ConvNet, dtype: Any, train: bool, name: str) -> jax.Array:
    count = len(block.features)
    sizes, paddings = _repeated(block.kernel_sizes, count), _repeated(block.paddings, count)
    activations: tuple[Activation, ...] = _repeated(block.activations or (spec.activation,), count)

    for i in range(count):
        x = Conv(
            block.features[i],
            sizes[i],
            padding=str(paddings[i]),
            kernel_init=CONV_INITIALIZERS[spec.kernel_init],
            use_bias=block.batch_norm is not BatchNorm.CONV,  # the bias of BatchNorm takes its place
            dtype=dtype,
            name=f"{name}_conv{i}",
        )(x)
        if block.batch_norm is BatchNorm.CONV:
            x = batch_norm(x, spec, train, dtype, f"{name}_conv{i}_norm")
        x = ACTIVATIONS[activations[i]](x)
    if block.batch_norm is BatchNorm.BLOCK:
        x = batch_norm(x, spec, train, dtype, f"{name}_norm")
    return Dropout(block.dropout, deterministic=not train)(max_pool(x, block.pool))


def _repeated(values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    return values * count if len(values) == 1 else values
