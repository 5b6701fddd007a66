"""Convolutions with stride 1, in the form that XLA runs fastest for their shape."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Conv(nn.Module):
    """Square two-dimensional convolution, stride 1: flax.linen.Conv with the gradient of `add_bias`.

    Attributes:
      features: output channels.
      size: pixels a side of the kernel.
      padding: "SAME" or "VALID".
      kernel_init: initializer of the kernel, float32 [size, size, in, features]; the bias starts at 0.
      use_bias: whether there is one.
      dtype: of the computation.
    """

    features: int
    size: int
    padding: str
    kernel_init: nn.initializers.Initializer
    use_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to [N, H', W', features]."""
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features))
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.padding)
        if not self.use_bias:
            return y
        return add_bias(y, self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype))


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """X [..., C] + bias [C]. The bias' gradient is a matrix product: XLA's own reduction over rows is slow on a CPU."""
    return x + bias


def _add_bias_backward(_: None, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows = g.reshape(-1, g.shape[-1])
    return g, jnp.matmul(jnp.ones(len(rows), g.dtype), rows, precision=jax.lax.Precision.HIGHEST)


add_bias.defvjp(lambda x, bias: (x + bias, None), _add_bias_backward)


def convolve(x: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    """Cross-correlation of a feature map with a square kernel.

    A 1x1 kernel is a matrix product. So is a SAME kernel on a map so small that every output sees every input: XLA's CPU
    backend takes 300 times as long over a 3x3 convolution of a 2x2 map as over that product.

    Args:
      x: [N, H, W, C].
      kernel: [size, size, C, features], of the same dtype.
      padding: "SAME" or "VALID".

    Returns:
      [N, H', W', features].
    """
    size, (_, height, width, _) = kernel.shape[0], x.shape
    if size == 1:
        return x @ kernel[0, 0]
    if padding == "SAME" and max(height, width) <= (size + 1) // 2:
        return _as_matrix_product(x, kernel)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _as_matrix_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """SAME convolution as one matrix [H * W * C, H * W * features]: for each output, the window of taps that meets the map."""
    n, height, width, channels = x.shape
    before = (kernel.shape[0] - 1) // 2  # rows of SAME padding above the map
    windows = [
        kernel[before - i : before - i + height, before - j : before - j + width] for i in range(height) for j in range(width)
    ]
    matrix = jnp.stack(windows, axis=3).reshape(height * width * channels, -1)
    return (x.reshape(n, -1) @ matrix).reshape(n, height, width, -1)
