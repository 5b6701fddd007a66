"""The networks of the CIFAR speed runs: a whitening stem learnt from data, then stages of convolutions with BatchNorm."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.config import ModelConfig
from cifar_flax.models.batch_norm import BatchNormalization
from cifar_flax.models.convolution import convolve
from cifar_flax.models.layers import ACTIVATIONS, DENSE_INITIALIZERS, INITIALIZERS, Conv, add_bias, max_pool, pool_features

WHITENING_SIZE = 2  # pixels a side of the patches
WHITENING_EPSILON = 5e-4  # added to the variances before they are divided by: Jordan's


class SpeedNet(nn.Module):
    """Whitening, stages, one vector an image, and logits without bias.

    Attributes:
      config: the network's spec.
      num_classes: width of the logits.
      dtype: of activations and matrix products; parameters are float32.

    References:
      Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024; the CIFAR-100 variant is from the same author's
      repository cifar10-airbench.
    """

    config: ModelConfig
    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps images, float [N, H, W, C], to logits, float32 [N, num_classes]; `train` has BatchNorm use the batch."""
        c = self.config
        activation = ACTIVATIONS[c.activation]

        def conv(x: jax.Array, features: int, size: int, name: str) -> jax.Array:
            return Conv(features, size, "SAME", INITIALIZERS[c.kernel_init], False, self.dtype, name=name)(x)

        def norm(x: jax.Array, name: str) -> jax.Array:
            return activation(
                BatchNormalization(
                    use_running_average=not train,
                    momentum=c.batch_norm_momentum,
                    epsilon=c.batch_norm_epsilon,
                    use_scale=False,
                    dtype=self.dtype,
                    name=f"{name}_norm",
                )(x)
            )

        x = activation(Whitening(self.dtype, name="whitening")(x))
        for i, stage in enumerate(c.stages):
            name = f"stage{i}_conv"
            x = norm(max_pool(conv(x, stage.features, stage.kernel_size, name), 2), name)
            branch = x
            for j, (features, size) in enumerate(zip(stage.branch_features, stage.branch_kernel_sizes, strict=True)):
                name = f"stage{i}_branch{j}"
                branch = norm(conv(branch, features, size, name), name)
            x = x + branch if stage.residual else branch
        x = pool_features(x, c.features)
        x = nn.Dense(
            self.num_classes, use_bias=False, kernel_init=DENSE_INITIALIZERS[c.kernel_init], dtype=self.dtype, name="logits"
        )(x)
        return x.astype(jnp.float32) * c.logit_scale


class Whitening(nn.Module):
    """VALID convolution whose outputs, over the images it is initialised with, have no correlation and like variances.

    Its kernel is a parameter, `whitening/kernel`, so that checkpoints carry it; recipes freeze it.

    Attributes:
      dtype: of the computation.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to [N, H - 1, W - 1, 8 C]: each direction and its negative."""
        kernel = self.param("kernel", lambda key: whitening_kernel(x.astype(jnp.float32), WHITENING_SIZE, WHITENING_EPSILON))
        bias = self.param("bias", nn.initializers.zeros, (kernel.shape[-1],))
        return add_bias(convolve(x.astype(self.dtype), kernel.astype(self.dtype), "VALID"), bias.astype(self.dtype))


def whitening_kernel(images: jax.Array, size: int, epsilon: float) -> jax.Array:
    """The eigenvectors of the covariance of all patches, over the square roots of their variances; and their negatives.

    Args:
      images: float32 [N, H, W, C].
      size: pixels a side of a patch.
      epsilon: added to the variances.

    Returns:
      float32 [size, size, C, 2 * size * size * C], the largest variance first.

    References:
      Page, "How to Train Your ResNet 8: Bag of Tricks", 2019; Jordan 2024, section 3.2.
    """
    n, height, width, channels = images.shape
    rows, columns = height - size + 1, width - size + 1
    shifted = [images[:, i : i + rows, j : j + columns] for i in range(size) for j in range(size)]
    patches = jnp.stack(shifted, axis=3).reshape(n * rows * columns, size * size * channels)
    patches = patches - patches.mean(0)
    covariance = jnp.matmul(patches.T, patches, precision=jax.lax.Precision.HIGHEST) / patches.shape[0]
    variances, vectors = jnp.linalg.eigh(covariance)
    kernel = (vectors / jnp.sqrt(variances + epsilon))[:, ::-1]
    return jnp.concatenate([kernel, -kernel], axis=1).reshape(size, size, channels, -1)
