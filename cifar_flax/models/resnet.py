"""Residual networks for small images: ResNet-18 as it is used on CIFAR, and wide residual networks."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.config import ModelConfig
from cifar_flax.models.batch_norm import BatchNormalization
from cifar_flax.models.layers import ACTIVATIONS, DENSE_INITIALIZERS, INITIALIZERS, pool_features


class ResNet(nn.Module):
    """A 3x3 stem without pooling, stages of basic blocks, one vector an image, and logits.

    Attributes:
      config: the network's spec, of which `config.resnet` has the stages.
      num_classes: width of the logits.
      dtype: of activations and matrix products; parameters are float32.

    References:
      He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Zagoruyko & Komodakis, "Wide Residual Networks",
      BMVC 2016, whose blocks have BatchNorm and activation before each convolution (`preactivation`).
    """

    config: ModelConfig
    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps images, float [N, H, W, C], to logits, float32 [N, num_classes].

        `train` turns dropout on (rng collection "dropout") and lets BatchNorm use and update batch statistics.
        """
        c, r = self.config, self.config.resnet
        x = _conv(x.astype(self.dtype), r.stem, 3, 1, self, "stem")
        if not r.preactivation:
            x = _norm(x, self, train, "stem_norm")
        for i, (features, blocks) in enumerate(zip(r.features, r.blocks, strict=True)):
            for j in range(blocks):
                x = _block(x, features, 2 if i and not j else 1, self, train, f"stage{i}_block{j}")
        if r.preactivation:
            x = _norm(x, self, train, "norm")
        x = pool_features(x, c.features)
        x = nn.Dense(self.num_classes, kernel_init=DENSE_INITIALIZERS[c.kernel_init], dtype=self.dtype, name="logits")(x)
        return x.astype(jnp.float32)


def _block(x: jax.Array, features: int, stride: int, net: ResNet, train: bool, name: str) -> jax.Array:
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""
    r = net.config.resnet
    changes = stride > 1 or x.shape[-1] != features
    if r.preactivation:
        before = _norm(x, net, train, f"{name}_norm0")
        y = _norm(_conv(before, features, 3, stride, net, f"{name}_conv0"), net, train, f"{name}_norm1")
        y = nn.Dropout(r.dropout, deterministic=not train)(y)
        y = _conv(y, features, 3, 1, net, f"{name}_conv1")
        return y + (_conv(before, features, 1, stride, net, f"{name}_shortcut") if changes else x)
    y = _norm(_conv(x, features, 3, stride, net, f"{name}_conv0"), net, train, f"{name}_norm0")
    y = nn.Dropout(r.dropout, deterministic=not train)(y)
    y = _norm(_conv(y, features, 3, 1, net, f"{name}_conv1"), net, train, f"{name}_norm1", activate=False)
    if changes:
        x = _norm(_conv(x, features, 1, stride, net, f"{name}_shortcut"), net, train, f"{name}_shortcut_norm", activate=False)
    return ACTIVATIONS[net.config.activation](x + y)


def _conv(x: jax.Array, features: int, size: int, stride: int, net: ResNet, name: str) -> jax.Array:
    """Padded by size // 2 on every side, as PyTorch's are, which with stride 2 is not what "SAME" does."""
    return nn.Conv(
        features,
        (size, size),
        (stride, stride),
        padding=size // 2,
        use_bias=False,
        kernel_init=INITIALIZERS[net.config.kernel_init],
        dtype=net.dtype,
        name=name,
    )(x)


def _norm(x: jax.Array, net: ResNet, train: bool, name: str, activate: bool = True) -> jax.Array:
    c = net.config
    y = BatchNormalization(
        use_running_average=not train,
        momentum=c.batch_norm_momentum,
        epsilon=c.batch_norm_epsilon,
        dtype=net.dtype,
        name=name,
    )(x)
    return ACTIVATIONS[c.activation](y) if activate else y
