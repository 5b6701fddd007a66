"""Layers that the networks share, written so that XLA runs their gradients well on a CPU too."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.config.types import Activation, Features, Initializer
from cifar_flax.models.convolution import convolve


@jax.custom_jvp
def elu(x: jax.Array) -> jax.Array:
    """Exponential linear unit: x above 0, exp(x) - 1 below. Its gradient is read off its value, with no second exponential."""
    return jnp.where(x > 0, x, jnp.exp(jnp.minimum(x, 0)) - 1)


@elu.defjvp
def _elu_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    y = elu(primals[0])
    return y, tangents[0] * jnp.where(y > 0, 1, y + 1)


ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    Activation.LINEAR: lambda x: x,
    Activation.RELU: nn.relu,
    Activation.ELU: elu,
    Activation.GELU: lambda x: nn.gelu(x, approximate=False),
    Activation.SILU: nn.silu,
    Activation.TANH: jnp.tanh,
    Activation.SIGMOID: nn.sigmoid,
    # Keras 2's, as the write-ups had; Keras 3 has relu6(x + 3) / 6.
    Activation.HARD_SIGMOID: lambda x: jnp.clip(0.2 * x + 0.5, 0, 1),
}

TORCH_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch.nn.Conv2d's and Linear's default


def dirac(key: jax.Array, shape: tuple[int, int, int, int], dtype: Any = jnp.float32) -> jax.Array:
    """Kernels [size, size, in, out] whose first min(in, out) outputs are the inputs; the others as in TORCH_UNIFORM.

    References:
      Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, section 3.3.
    """
    size, _, inputs, outputs = shape
    same = min(inputs, outputs)
    kernel = TORCH_UNIFORM(key, shape, dtype).at[..., :same].set(0)
    centre = (size - 1) // 2  # SAME padding of an even kernel has the odd row at the end
    return kernel.at[centre, centre, jnp.arange(same), jnp.arange(same)].set(1)


INITIALIZERS: dict[Initializer, nn.initializers.Initializer] = {
    Initializer.GLOROT_UNIFORM: nn.initializers.glorot_uniform(),
    Initializer.HE_NORMAL: nn.initializers.he_normal(),
    Initializer.LECUN_NORMAL: nn.initializers.lecun_normal(),
    Initializer.TORCH_UNIFORM: TORCH_UNIFORM,
    Initializer.DIRAC: dirac,
}

DENSE_INITIALIZERS = {**INITIALIZERS, Initializer.DIRAC: TORCH_UNIFORM}  # of matrices


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, window: int) -> jax.Array:
    """Max pooling with stride = window and no padding: [N, H, W, C] -> [N, H // window, W // window, C].

    Maxima of strided slices, not `reduce_window`, the gradient of which is slow on a CPU (select-and-scatter). Where a window
    has several maxima, its gradient is shared among them evenly.

    Raises:
      ValueError: the map is smaller than the window.
    """
    if window == 1:
        return x
    if min(x.shape[1:3]) < window:
        raise ValueError(f"a {x.shape[1]}x{x.shape[2]} map is too small for {window}x{window} pooling")
    return functools.reduce(jnp.maximum, _corners(_windows(x, window)))


def _max_pool_forward(x: jax.Array, window: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = max_pool(x, window)
    return y, (x, y)


def _max_pool_backward(window: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    x, y = saved
    if window == 1:
        return (g,)
    (_, h, w, _), blocks = x.shape, _windows(x, window)
    maxima = sum((corner == y).astype(g.dtype) for corner in _corners(blocks))
    share = jax.lax.optimization_barrier(g / maxima)  # or it would be computed again for each place of the window
    spread = jnp.where(blocks == y[:, :, None, :, None], share[:, :, None, :, None], 0)
    n, rows, _, columns, _, c = spread.shape
    rest = ((0, 0), (0, h - rows * window), (0, w - columns * window), (0, 0))
    return (jnp.pad(spread.reshape(n, rows * window, columns * window, c), rest),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def pool_features(x: jax.Array, how: Features) -> jax.Array:
    """A feature map [N, H, W, C] as a vector: [N, C], or [N, H * W * C] where it is flattened."""
    if how is Features.FLATTEN:
        return x.reshape(x.shape[0], -1)
    pooled = {
        Features.MEAN: lambda: x.mean((1, 2)),
        Features.MAX: lambda: x.max((1, 2)),
        Features.MAX_PLUS_MEAN: lambda: x.max((1, 2)) + x.mean((1, 2)),
    }
    return pooled[how]()


def _windows(x: jax.Array, window: int) -> jax.Array:
    """[N, H, W, C] -> [N, rows, window, columns, window, C], without what is left over at the edges."""
    n, h, w, c = x.shape
    rows, columns = h // window, w // window
    whole = jax.lax.slice_in_dim(jax.lax.slice_in_dim(x, 0, rows * window, axis=1), 0, columns * window, axis=2)
    return whole.reshape(n, rows, window, columns, window, c)


def _corners(blocks: jax.Array) -> list[jax.Array]:
    """The window^2 slices [N, rows, columns, C] of what `_windows` gives."""
    rows = [jax.lax.index_in_dim(blocks, i, axis=2, keepdims=False) for i in range(blocks.shape[2])]
    return [jax.lax.index_in_dim(row, j, axis=3, keepdims=False) for row in rows for j in range(blocks.shape[4])]
