"""Convolutions, with their gradients in the form that XLA runs fastest for their shape, dtype and backend."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.runtime import compilation

PaddingPixels = tuple[tuple[int, int], tuple[int, int]]  # rows above and below, columns left and right
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
ONES = 16  # rows of a matrix of ones, as many as a tile of AMX has
STACK_BYTES = 6 << 20  # of the pixels that a kernel's gradient stacks at a time: much more does not stay in the cache
# Where products for each place of a map are faster than a convolution by oneDNN. On 5x5 maps, or with 64 channels, they take
# twice as long.
MAX_MAP_SIDE = 3  # pixels a side of the map, at most
MIN_IMAGES = 64  # at least
MIN_CHANNELS = 256  # at least, of the map and of the result
# Where, on a CPU without oneDNN, the gradient of a kernel is one product with all pixels under it: kernels on images. It takes
# .2 to .9 of the time of autodiff's form; three times it with 7x7 on three channels, and half as much again with 16 features.
MAX_WINDOW = 27  # numbers under the kernel, at most: 3x3 of three channels
MIN_FEATURES = 32  # at least


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
    """Adds bias [C] to x [..., C]. The bias' gradient is a matrix product: XLA's own reduction over rows is slow on a CPU."""
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
    backend takes 300 times as long over a 3x3 convolution of a 2x2 map as over that product. Where oneDNN runs,
    a 3x3 map of many images and channels is a product for each place.

    Args:
      x: [N, H, W, C].
      kernel: [size, size, C, features], of the same dtype.
      padding: "SAME" (with stride 1 only), "VALID", or pixels on each side, fewer than `size`.
      stride: pixels from one window to the next.

    Returns:
      [N, H', W', features].

    Raises:
      ValueError: the padding is none of these, or no window fits into the map.
    """
    size, (_, height, width, _) = len(kernel), x.shape
    pixels = _padding_pixels(padding, size, stride)
    if min(height, width) + sum(pixels[0]) < size:  # of which XLA makes a map without a pixel
        without = " without padding" if padding == "VALID" else f" with {padding} pixels of padding"
        raise ValueError(f"a map of {height}x{width} is too small for a kernel of {size}x{size}{without}")
    if size == stride == 1:
        return (_multiply if compilation.uses_onednn(x.dtype) else jnp.matmul)(x, kernel[0, 0])
    if stride == 1 and padding == "SAME" and max(height, width) <= (size + 1) // 2:
        return _as_matrix_product(x, kernel)
    if not compilation.uses_onednn(x.dtype):
        small_window = math.prod(kernel.shape[:3]) <= MAX_WINDOW and kernel.shape[3] >= MIN_FEATURES
        few_channels = small_window and jax.default_backend() == "cpu"
        return (_correlate_few_channels if few_channels else _correlate)(x, kernel, pixels, stride)
    many = len(x) >= MIN_IMAGES and min(kernel.shape[2:]) >= MIN_CHANNELS
    if stride == 1 and padding == "SAME" and max(height, width) <= min(size, MAX_MAP_SIDE) and many:
        return _correlate_by_place(x, kernel)
    return _correlate_by_onednn(x, kernel, pixels, stride)


@jax.custom_vjp
def _multiply(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """The product of x [..., C] and matrix [C, features], for oneDNN: in autodiff's gradient of it, XLA copies a factor."""
    return x @ matrix


def _multiply_backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, matrix = saved
    return g @ matrix.T, (g.reshape(-1, g.shape[-1]).T @ x.reshape(-1, x.shape[-1])).T


_multiply.defvjp(lambda x, matrix: (x @ matrix, (x, matrix)), _multiply_backward)


def _padding_pixels(padding: str | int, size: int, stride: int) -> PaddingPixels:
    if padding == "SAME" and stride == 1:
        pixels = ((size - 1) // 2, size // 2)
    elif padding == "VALID":
        pixels = (0, 0)
    elif isinstance(padding, int) and padding < size:
        pixels = (padding, padding)
    else:
        raise ValueError(f"expected SAME with stride 1, VALID or fewer than {size} pixels, not {padding} with stride {stride}")
    return pixels, pixels


def _correlate(x: jax.Array, kernel: jax.Array, padding: PaddingPixels, stride: int) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _correlate_few_channels(x: jax.Array, kernel: jax.Array, padding: PaddingPixels, stride: int) -> jax.Array:
    """`_correlate` with the kernel's gradient as one product.

    Autodiff's form turns map and gradient round, one number after another, which takes longer than the convolution where the
    map has few channels. Here nothing but the map is copied, in rows.
    """
    return _correlate(x, kernel, padding, stride)


def _few_channels_backward(
    padding: PaddingPixels, stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    pullback = jax.linear_transpose(lambda x: _correlate(x, kernel, padding, stride), x)
    (height, width, features), size = g.shape[1:], len(kernel)
    planes = jnp.pad(x, ((0, 0), *padding, (0, 0))).transpose(3, 0, 1, 2)
    rows, columns = (slice(None, stride * (length - 1) + 1, stride) for length in (height, width))
    taps = [planes[:, :, i:, j:][:, :, rows, columns] for i in range(size) for j in range(size)]
    product = jnp.stack(taps).reshape(-1, len(x) * height * width) @ g.reshape(-1, features)
    return *pullback(g), product.reshape(kernel.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _correlate_by_onednn(x: jax.Array, kernel: jax.Array, padding: PaddingPixels, stride: int) -> jax.Array:
    """`_correlate` with both gradients as oneDNN runs them.

    XLA hands forward convolutions and matrix products to oneDNN, and of the gradients that autodiff makes of a convolution
    none. The input's is therefore a forward convolution with the kernel turned round, and the kernel's a matrix product for
    each of its rows, with a bfloat16 result that is accumulated in float32: with a float32 result XLA keeps it.
    """
    return _correlate(x, kernel, padding, stride)


def _forward(x: jax.Array, kernel: jax.Array, padding: PaddingPixels, stride: int) -> tuple[jax.Array, Any]:
    return _correlate(x, kernel, padding, stride), (x, kernel)


def _onednn_backward(padding: PaddingPixels, stride: int, saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return _input_gradient(g, kernel, x.shape, padding, stride), _kernel_gradient(g, x, len(kernel), padding, stride)


_correlate_by_onednn.defvjp(_forward, _onednn_backward)
_correlate_few_channels.defvjp(_forward, _few_channels_backward)


def _input_gradient(g: jax.Array, kernel: jax.Array, shape: tuple[int, ...], padding: PaddingPixels, stride: int) -> jax.Array:
    """The gradient of a map of `shape`, [N, H, W, C], given that of the result, [N, H', W', features]."""
    size = len(kernel)
    flipped = jax.lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))  # or XLA would make it part of the convolution
    if stride > 1:
        g = jax.lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), (0, 0, stride - 1), (0, 0, stride - 1), (0, 0, 0)])
    around = [
        (size - 1 - before, in_size + before - out_size)
        for (before, _), in_size, out_size in zip(padding, shape[1:3], g.shape[1:3], strict=True)
    ]
    return _correlate(g, flipped, (around[0], around[1]), 1)


def _kernel_gradient(g: jax.Array, x: jax.Array, size: int, padding: PaddingPixels, stride: int) -> jax.Array:
    """The gradient of a kernel of `size`, [size, size, C, features]: a matrix product for each of its rows and part of a batch.

    What is stacked for a part is near `STACK_BYTES`, as the divisors of the batch allow. Parts are summed in float32.
    """
    stacked = g.shape[1] * g.shape[2] * size * x.shape[-1] * x.dtype.itemsize  # bytes an image
    parts = _divisor_near(len(x), max(1, len(x) * stacked // STACK_BYTES))
    if parts == 1:
        total = _products_with_rows(g, x, size, padding, stride)
    else:

        def add(total: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            return total + _products_with_rows(*part, size, padding, stride).astype(jnp.float32), None

        zeros = jnp.zeros((size, g.shape[-1], size * x.shape[-1]), jnp.float32)
        total, _ = jax.lax.scan(add, zeros, (g.reshape(parts, -1, *g.shape[1:]), x.reshape(parts, -1, *x.shape[1:])))
    return total.reshape(size, g.shape[-1], size, x.shape[-1]).transpose(0, 2, 3, 1).astype(x.dtype)


def _divisor_near(number: int, wanted: int) -> int:
    """The divisor of a number that is nearest to the wanted one, in ratio; the smaller of two."""
    divisors = [i for i in range(1, number + 1) if number % i == 0]
    return min(divisors, key=lambda divisor: abs(math.log(divisor / wanted)))


def _products_with_rows(g: jax.Array, x: jax.Array, size: int, padding: PaddingPixels, stride: int) -> jax.Array:
    """The gradient of each row of a kernel, of a few images: [size, features, size * C].

    The pixels under a row of the kernel are stacked in the last axis but one, which XLA's CPU backend does at the speed of
    memory; to concatenate them in the last takes it four times as long. With the gradient as the first factor the product
    takes 3 to 20 % less time than with the pixels, which are the larger to turn.
    """
    (_, height, width, features), channels = g.shape, x.shape[-1]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    g = g.reshape(-1, features)

    def product(row: int) -> jax.Array:
        rows = jax.lax.slice_in_dim(x, row, row + stride * (height - 1) + 1, stride, axis=1)
        taps = [jax.lax.slice_in_dim(rows, j, j + stride * (width - 1) + 1, stride, axis=2) for j in range(size)]
        return g.T @ jnp.stack(taps, axis=-2).reshape(-1, size * channels)

    return jnp.stack([product(row) for row in range(size)])


def _correlate_by_place(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """SAME convolution of a map no larger than the kernel: for each place of the map a matrix product over the batch.

    Of a 3x3 map and a 3x3 kernel, the products leave out the 32 of 81 pairs of an output and a tap that lie outside of the map,
    and fill the tiles of AMX, of 16 rows, with images; a convolution by oneDNN fills them with the 3 pixels of a row.
    """
    (n, height, width, _), (size, _, _, features) = x.shape, kernel.shape
    before, after = (size - 1) // 2, size // 2

    def seen(place: int, length: int) -> tuple[slice, slice]:
        """The pixels of a row that an output sees, and the taps that it sees them with."""
        first, end = max(place - before, 0), min(place + after + 1, length)
        return slice(first, end), slice(first - place + before, end - place + before)

    def product(i: int, j: int) -> jax.Array:
        (rows, row_taps), (columns, column_taps) = seen(i, height), seen(j, width)
        return x[:, rows, columns].reshape(n, -1) @ kernel[row_taps, column_taps].reshape(-1, features)

    places = [product(i, j) for i in range(height) for j in range(width)]
    return jnp.stack(places, axis=1).reshape(n, height, width, features)


def _as_matrix_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """SAME convolution as one matrix [H * W * C, H * W * features]: for each output, the window of taps that meets the map."""
    n, height, width, channels = x.shape
    before = (kernel.shape[0] - 1) // 2  # rows of SAME padding above the map
    windows = [
        kernel[before - i : before - i + height, before - j : before - j + width] for i in range(height) for j in range(width)
    ]
    matrix = jnp.stack(windows, axis=3).reshape(height * width * channels, -1)
    return (x.reshape(n, -1) @ matrix).reshape(n, height, width, -1)
