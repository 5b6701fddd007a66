"""Residual networks for small images: ResNet-18 as it is used on CIFAR, and wide residual networks."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.config.registry import MODELS
from cifar_flax.config.specs import ModelSpec
from cifar_flax.config.types import (
    Activation,
    Channels,
    GlobalPool,
    Initializer,
    Positive,
    Repeats,
    UnitIntervalOpen,
)
from cifar_flax.errors import ConfigError
from cifar_flax.models.activations import ACTIVATIONS
from cifar_flax.models.batch_norm import batch_norm
from cifar_flax.models.convolution import Conv
from cifar_flax.models.dropout import Dropout
from cifar_flax.models.initializers import CONV_INITIALIZERS, DENSE_INITIALIZERS
from cifar_flax.models.pooling import global_pool


@MODELS.register("resnet")
@dataclass(slots=True)
class ResNet(ModelSpec):
    """A 3x3 stem without pooling, stages of basic blocks of two 3x3 convolutions, one vector an image, and logits.

    Every stage but the first halves the map. The defaults are ResNet-18.

    References:
      He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Zagoruyko & Komodakis, "Wide Residual Networks",
      BMVC 2016, whose blocks have BatchNorm and activation before each convolution (`preactivation`).
    """

    activation: Activation = Activation.RELU
    stem: Channels = 64  # channels of the first convolution
    features: tuple[Channels, ...] = (64, 128, 256, 512)  # channels of each stage
    blocks: tuple[Repeats, ...] = (2, 2, 2, 2)  # in each stage
    preactivation: bool = False  # BatchNorm and activation before each convolution, as in wide residual networks
    dropout: UnitIntervalOpen = 0.0  # between the convolutions of a block
    global_pool: GlobalPool = GlobalPool.MEAN
    kernel_init: Initializer = Initializer.HE_NORMAL
    batch_norm_momentum: UnitIntervalOpen = 0.9  # of the running statistics: old * m + new * (1 - m)
    batch_norm_epsilon: Positive = 1e-5

    def build(self, num_classes: int, dtype: Any) -> nn.Module:
        """Makes the module."""
        return ResNetModule(self, num_classes, dtype)

    def check(self) -> None:
        """Refuses stages without a number of channels or of blocks."""
        if len(self.features) != len(self.blocks):
            raise ConfigError(f"blocks: {len(self.blocks)} entries for {len(self.features)} stages; features has one a stage")


class ResNetModule(nn.Module):
    """The network that a `ResNet` describes.

    Attributes:
      spec: its settings.
      num_classes: width of the logits.
      dtype: of activations and matrix products; parameters are float32.
    """

    spec: ResNet
    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps images, float [N, H, W, C], to logits, float32 [N, num_classes].

        `train` turns dropout on (rng collection "dropout") and lets BatchNorm use and update batch statistics.
        """
        spec = self.spec
        x = _conv(x.astype(self.dtype), spec.stem, 3, 1, self, "stem")
        if not spec.preactivation:
            x = _norm(x, self, train, "stem_norm")
        for i, (features, blocks) in enumerate(zip(spec.features, spec.blocks, strict=True)):
            for j in range(blocks):
                x = _block(x, features, 2 if i and not j else 1, self, train, f"stage{i}_block{j}")
        if spec.preactivation:
            x = _norm(x, self, train, "norm")
        x = global_pool(x, spec.global_pool)
        kernel_init = DENSE_INITIALIZERS[spec.kernel_init]
        x = nn.Dense(self.num_classes, kernel_init=kernel_init, dtype=self.dtype, name="logits")(x)
        return x.astype(jnp.float32)


def _block(x: jax.Array, features: int, stride: int, net: ResNetModule, train: bool, name: str) -> jax.Array:
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""
    spec = net.spec
    changes = stride > 1 or x.shape[-1] != features
    if spec.preactivation:
        before = _norm(x, net, train, f"{name}_norm0")
        y = _norm(_conv(before, features, 3, stride, net, f"{name}_conv0"), net, train, f"{name}_norm1")
        y = Dropout(spec.dropout, deterministic=not train)(y)
        y = _conv(y, features, 3, 1, net, f"{name}_conv1")
        return y + (_conv(before, features, 1, stride, net, f"{name}_shortcut") if changes else x)
    y = _norm(_conv(x, features, 3, stride, net, f"{name}_conv0"), net, train, f"{name}_norm0")
    y = Dropout(spec.dropout, deterministic=not train)(y)
    y = _norm(_conv(y, features, 3, 1, net, f"{name}_conv1"), net, train, f"{name}_norm1", activate=False)
    if changes:
        x = _norm(_conv(x, features, 1, stride, net, f"{name}_shortcut"), net, train, f"{name}_shortcut_norm", activate=False)
    return ACTIVATIONS[spec.activation](x + y)


def _conv(x: jax.Array, features: int, size: int, stride: int, net: ResNetModule, name: str) -> jax.Array:
    """Padded by size // 2 on every side, as in PyTorch; "SAME" pads otherwise with stride 2."""
    kernel_init = CONV_INITIALIZERS[net.spec.kernel_init]
    return Conv(features, size, size // 2, kernel_init, False, net.dtype, stride, name=name)(x)


def _norm(x: jax.Array, net: ResNetModule, train: bool, name: str, activate: bool = True) -> jax.Array:
    y = batch_norm(x, net.spec, train, net.dtype, name)
    return ACTIVATIONS[net.spec.activation](y) if activate else y
