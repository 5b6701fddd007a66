"""The network of the CIFAR speed runs: a whitening stem computed from data, then stages of convolutions with BatchNorm."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.config.registry import MODELS
from cifar_flax.config.specs import ModelSpec
from cifar_flax.config.types import (
    Activation,
    Channels,
    ConfigBase,
    GlobalPool,
    Initializer,
    Kernel,
    Positive,
    UnitIntervalOpen,
)
from cifar_flax.errors import ConfigError
from cifar_flax.models.activations import ACTIVATIONS
from cifar_flax.models.batch_norm import batch_norm
from cifar_flax.models.convolution import Conv, add_bias, convolve
from cifar_flax.models.initializers import CONV_INITIALIZERS, DENSE_INITIALIZERS
from cifar_flax.models.pooling import global_pool, max_pool

WHITENING_SIZE = 2  # pixels a side of the patches
WHITENING_EPSILON = 5e-4  # added to the variances before they are divided by; as in cifar10-airbench


@dataclass(slots=True)
class StageConfig(ConfigBase):
    """A convolution, 2x2 max pooling, BatchNorm and activation, then a branch of further convolutions."""

    features: Channels = 64  # output channels of the first convolution
    kernel_size: Kernel = 3
    branch_features: tuple[Channels, ...] = (64,)  # one entry a convolution, each with BatchNorm and activation
    branch_kernel_sizes: tuple[Kernel, ...] = (3,)  # one entry a convolution
    residual: bool = False  # add the input of the branch to its output


def _navier_stoked_stages() -> tuple[StageConfig, ...]:
    return (
        StageConfig(64, 3, branch_features=(64, 64), branch_kernel_sizes=(1, 1), residual=True),
        StageConfig(256, 3, branch_features=(192, 256), branch_kernel_sizes=(3, 1), residual=True),
        StageConfig(768, 2, branch_features=(512, 768), branch_kernel_sizes=(3, 3), residual=True),
    )


@MODELS.register("speednet")
@dataclass(slots=True)
class SpeedNet(ModelSpec):
    """A frozen whitening stem, stages, one vector an image, and logits without bias.

    The defaults are the network of NAVIER-STOKED, an entry of AIDDA-Institute's CIFAR-100 speed run: the structure of the team
    futurebiohackers, on the stem and with the dirac kernels of cifar10-airbench.

    References:
      Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024; github.com/AIDDA-Institute/CIFAR-100-speedrun,
      submissions/NAVIER-STOKED.
    """

    initialized_from_data: ClassVar[tuple[str, ...]] = ("whitening/*",)

    activation: Activation = Activation.SILU
    stages: tuple[StageConfig, ...] = field(default_factory=_navier_stoked_stages)
    global_pool: GlobalPool = GlobalPool.MAX_PLUS_MEAN
    logit_scale: Positive = 1.25 / 9  # factor of the logits
    kernel_init: Initializer = Initializer.DIRAC
    batch_norm_momentum: UnitIntervalOpen = 0.9  # of the running statistics: old * m + new * (1 - m)
    batch_norm_epsilon: Positive = 1e-5
    batch_norm_scale: bool = True  # a factor for each channel after BatchNorm, besides the bias

    def build(self, num_classes: int, dtype: Any) -> nn.Module:
        """Makes the module."""
        return SpeedNetModule(self, num_classes, dtype)

    def check(self) -> None:
        """Refuses branches that do not fit their stage."""
        for i, stage in enumerate(self.stages):
            given, wanted = len(stage.branch_kernel_sizes), len(stage.branch_features)
            if given != wanted:
                raise ConfigError(f"stages[{i}].branch_kernel_sizes: {given} entries for {wanted} convolutions")
            if stage.residual and stage.branch_features[-1:] != (stage.features,):
                raise ConfigError(
                    f"stages[{i}].branch_features: a residual branch ends with as many channels as it begins with, "
                    f"{stage.features}"
                )


class SpeedNetModule(nn.Module):
    """The network that a `SpeedNet` describes.

    Attributes:
      spec: its settings.
      num_classes: width of the logits.
      dtype: of activations and matrix products; parameters are float32.
    """

    spec: SpeedNet
    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps images, float [N, H, W, C], to logits, float32 [N, num_classes]; `train` makes BatchNorm use the batch."""
        spec = self.spec
        activation = ACTIVATIONS[spec.activation]

        def conv(x: jax.Array, features: int, size: int, name: str) -> jax.Array:
            return Conv(features, size, "SAME", CONV_INITIALIZERS[spec.kernel_init], False, self.dtype, name=name)(x)

        def norm(x: jax.Array, name: str) -> jax.Array:
            return activation(batch_norm(x, spec, train, self.dtype, f"{name}_norm", spec.batch_norm_scale))

        x = activation(Whitening(self.dtype, name="whitening")(x))
        for i, stage in enumerate(spec.stages):
            name = f"stage{i}_conv"
            x = norm(max_pool(conv(x, stage.features, stage.kernel_size, name), 2), name)
            branch = x
            for j, (features, size) in enumerate(zip(stage.branch_features, stage.branch_kernel_sizes, strict=True)):
                name = f"stage{i}_branch{j}"
                branch = norm(conv(branch, features, size, name), name)
            x = x + branch if stage.residual else branch
        x = global_pool(x, spec.global_pool)
        kernel_init = DENSE_INITIALIZERS[spec.kernel_init]
        x = nn.Dense(self.num_classes, use_bias=False, kernel_init=kernel_init, dtype=self.dtype, name="logits")(x)
        return x.astype(jnp.float32) * spec.logit_scale


class Whitening(nn.Module):
    """VALID convolution whose outputs, over the images it is initialised with, are uncorrelated and of equal variance.

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
