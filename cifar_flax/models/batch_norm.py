"""Batch normalisation with its gradient written out, in a form that XLA runs faster on a CPU than what autodiff makes of it."""

import functools
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.runtime.loops import materialized, row_groups


class BatchNormSettings(Protocol):
    """The fields that the spec of a network with BatchNorm has."""

    batch_norm_momentum: float
    batch_norm_epsilon: float


def batch_norm(x: jax.Array, spec: BatchNormSettings, train: bool, dtype: Any, name: str, use_scale: bool = True) -> jax.Array:
    """BatchNorm of [..., C] with the settings of a spec, as a submodule of the compact method that calls it."""
    return BatchNormalization(
        use_running_average=not train,
        momentum=spec.batch_norm_momentum,
        epsilon=spec.batch_norm_epsilon,
        use_scale=use_scale,
        dtype=dtype,
        name=name,
    )(x)


class BatchNormalization(nn.Module):
    """flax.linen.BatchNorm over all axes but the last: the same parameters, statistics and values.

    Attributes:
      use_running_average: whether to normalise with the running statistics instead of those of the batch.
      momentum: share of the running statistics that a step leaves; 1 - momentum in PyTorch's sense.
      epsilon: added to the variance.
      dtype: of the result; statistics and their use are float32.
      use_scale: whether there is a scale, beside the bias.
    """

    use_running_average: bool
    momentum: float
    epsilon: float
    dtype: Any
    use_scale: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., C] to [..., C]; updates the running statistics where it uses those of the batch."""
        features = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, features) if self.use_scale else jnp.ones(features)
        bias = self.param("bias", nn.initializers.zeros, features)
        x = x.astype(self.dtype)
        if self.use_running_average:
            y = (x - running_mean.value) * (scale * jax.lax.rsqrt(running_var.value + self.epsilon)) + bias
            return y.astype(self.dtype)
        y, mean, var = normalize(x, scale, bias, self.epsilon)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var
        return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalize(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel over the batch.

    Args:
      x: float [..., C]; all that is computed from it is float32, and no float32 copy of it is kept.
      scale: float32 [C].
      bias: float32 [C].
      epsilon: added to the variance.

    Returns:
      (x - mean) / sqrt(variance + epsilon) * scale + bias, [..., C] of the dtype of x; the mean and the biased variance, each
      float32 [C], through which no gradient flows.

    References:
      Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
      ICML 2015; the gradient is that of section 3, with its terms gathered.
    """
    return _normalize(x, scale, bias, epsilon)[0]


def _normalize(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[Any, Any]:
    x = materialized(x)  # XLA takes several times as long within the loop of a sum
    values = x.astype(jnp.float32)
    mean, square = (total / (x.size // x.shape[-1]) for total in sums(values, values * values))
    var = jnp.maximum(square - mean * mean, 0)
    inverse = jax.lax.rsqrt(var + epsilon)
    y = (values - mean) * (scale * inverse) + bias
    return (y.astype(x.dtype), mean, var), (x, scale, mean, inverse)


def _normalize_backward(epsilon: float, saved: Any, gradients: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, inverse = saved
    g = materialized(gradients[0]).astype(jnp.float32)
    centred, count = x.astype(jnp.float32) - mean, x.size // x.shape[-1]
    bias_gradient, product = sums(g, g * centred)
    scale_gradient = product * inverse
    slope = inverse * inverse * scale * scale_gradient / count
    offset = inverse * scale * bias_gradient / count
    x_gradient = (scale * inverse) * g - slope * centred - offset
    return x_gradient.astype(x.dtype), scale_gradient, bias_gradient


normalize.defvjp(_normalize, _normalize_backward)


def sums(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums of two arrays [..., C] over all axes but the last: each [C]."""
    if jax.default_backend() != "cpu":
        axes = tuple(range(a.ndim - 1))
        return a.sum(axes), b.sum(axes)
    zero = jnp.zeros((), a.dtype)
    short = jax.lax.reduce((row_groups(a), row_groups(b)), (zero, zero), lambda x, y: (x[0] + y[0], x[1] + y[1]), (1,))
    return short[0].sum(0), short[1].sum(0)
