"""Convolutions, with their gradients in the form that XLA runs fastest for their shape, dtype and backend."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.runtime import compilation

Padding = tuple[tuple[int, int], tuple[int, int]]  # rows above and below, columns left and right
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
ONES = 16  # rows of a matrix of ones, as many as a tile of AMX has


class Conv(nn.Module):
    """Square two-dimensional convolution: flax.linen.Conv with the gradients of `convolve` and `add_bias`.

    Attributes:
      features: output channels.
      size: pixels a side of the kernel.
      padding: "SAME", "VALID", or pixels on each side.
      kernel_init: initializer of the kernel, float32 [size, size, in, features]; the bias starts at 0.
      use_bias: whether there is one.
      dtype: of the computation.
      stride: pixels from one window to the next, in both directions.
    """

    features: int
    size: int
    padding: str | int
    kernel_init: nn.initializers.Initializer
    use_bias: bool
    dtype: Any
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to [N, H', W', features]."""
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features))
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.padding, self.stride)
        if not self.use_bias:
            return y
        return add_bias(y, self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype))


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """X [..., C] + bias [C]. The bias' gradient is a matrix product: XLA's own reduction over rows is slow on a CPU."""
    return x + bias


def _add_bias_backward(_: None, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    if compilation.uses_onednn(g.dtype):  # which takes no products with a vector
        g = jax.lax.optimization_barrier(g)  # or XLA would compute it twice, once in float32
        rows = g.reshape(-1, g.shape[-1])
        return g, jnp.matmul(jnp.ones((ONES, len(rows)), g.dtype), rows)[0]
    rows = g.reshape(-1, g.shape[-1])
    return g, jnp.matmul(jnp.ones(len(rows), g.dtype), rows, precision=jax.lax.Precision.HIGHEST)


add_bias.defvjp(lambda x, bias: (x + bias, None), _add_bias_backward)


def convolve(x: jax.Array, kernel: jax.Array, padding: str | int, stride: int = 1) -> jax.Array:
    """Cross-correlation of a feature map with a square kernel.

    A 1x1 kernel is a matrix product. So is a SAME kernel on a map so small that every output sees every input: XLA's CPU
    backend takes 300 times as long over a 3x3 convolution of a 2x2 map as over that product.

    Args:
      x: [N, H, W, C].
      kernel: [size, size, C, features], of the same dtype.
      padding: "SAME" (with stride 1 only), "VALID", or pixels on each side, fewer than `size`.
      stride: pixels from one window to the next.

    Returns:
      [N, H', W', features].

    Raises:
      ValueError: the padding is none of these.
    """
    size, (_, height, width, _) = len(kernel), x.shape
    if size == stride == 1:
        return x @ kernel[0, 0]
    if stride == 1 and padding == "SAME" and max(height, width) <= (size + 1) // 2:
        return _as_matrix_product(x, kernel)
    correlate = _correlate_by_onednn if compilation.uses_onednn(x.dtype) else _correlate
    return correlate(x, kernel, _pixels(padding, size, stride), stride)


def _pixels(padding: str | int, size: int, stride: int) -> Padding:
    if padding == "SAME" and stride == 1:
        pixels = ((size - 1) // 2, size // 2)
    elif padding == "VALID":
        pixels = (0, 0)
    elif isinstance(padding, int) and padding < size:
        pixels = (padding, padding)
    else:
        raise ValueError(f"expected SAME with stride 1, VALID or fewer than {size} pixels, not {padding} with stride {stride}")
    return pixels, pixels


def _correlate(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _correlate_by_onednn(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> jax.Array:
    """`_correlate` with both gradients as oneDNN runs them.

    XLA hands forward convolutions and matrix products to oneDNN, and of the gradients that autodiff makes of a convolution
    none. The input's is therefore a forward convolution with the kernel turned round, and the kernel's a matrix product for
    each of its rows, with a bfloat16 result that is accumulated in float32: with a float32 result XLA keeps it.
    """
    return _correlate(x, kernel, padding, stride)


def _forward(x: jax.Array, kernel: jax.Array, padding: Padding, stride: int) -> tuple[jax.Array, Any]:
    return _correlate(x, kernel, padding, stride), (x, kernel)


def _backward(padding: Padding, stride: int, saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return _input_gradient(g, kernel, x.shape, padding, stride), _kernel_gradient(g, x, len(kernel), padding, stride)


_correlate_by_onednn.defvjp(_forward, _backward)


def _input_gradient(g: jax.Array, kernel: jax.Array, shape: tuple[int, ...], padding: Padding, stride: int) -> jax.Array:
    """The gradient of a map of `shape`, [N, H, W, C], given that of the result, [N, H', W', features]."""
    size = len(kernel)
    turned = jax.lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))  # or XLA would make it part of the convolution
    if stride > 1:
        g = jax.lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), (0, 0, stride - 1), (0, 0, stride - 1), (0, 0, 0)])
    around = [
        (size - 1 - before, whole + before - part)
        for (before, _), whole, part in zip(padding, shape[1:3], g.shape[1:3], strict=True)
    ]
    return _correlate(g, turned, (around[0], around[1]), 1)


def _kernel_gradient(g: jax.Array, x: jax.Array, size: int, padding: Padding, stride: int) -> jax.Array:
    """The gradient of a kernel of `size`, [size, size, C, features]: a matrix product for each of its rows.

    The pixels under a row are stacked in the last axis but one, which XLA's CPU backend does at the speed of memory; to
    concatenate them in the last takes it four times as long.
    """
    (_, height, width, features), channels = g.shape, x.shape[-1]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    g = g.reshape(-1, features)

    def product(row: int) -> jax.Array:
        rows = jax.lax.slice_in_dim(x, row, row + stride * (height - 1) + 1, stride, axis=1)
        taps = [jax.lax.slice_in_dim(rows, j, j + stride * (width - 1) + 1, stride, axis=2) for j in range(size)]
        return jnp.stack(taps, axis=-2).reshape(-1, size * channels).T @ g

    return jnp.stack([product(row) for row in range(size)]).reshape(size, size, channels, features)


def _as_matrix_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """SAME convolution as one matrix [H * W * C, H * W * features]: for each output, the window of taps that meets the map."""
    n, height, width, channels = x.shape
    before = (kernel.shape[0] - 1) // 2  # rows of SAME padding above the map
    windows = [
        kernel[before - i : before - i + height, before - j : before - j + width] for i in range(height) for j in range(width)
    ]
    matrix = jnp.stack(windows, axis=3).reshape(height * width * channels, -1)
    return (x.reshape(n, -1) @ matrix).reshape(n, height, width, -1)
