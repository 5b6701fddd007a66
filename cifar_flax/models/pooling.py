"""Pooling, written so that XLA runs its gradient well on a CPU too."""

import functools

import jax
import jax.numpy as jnp

from cifar_flax.config.types import GlobalPool
from cifar_flax.runtime.loops import in_float32


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
    return functools.reduce(jnp.maximum, map(in_float32, _corners(_windows(x, window)))).astype(x.dtype)


def _max_pool_forward(x: jax.Array, window: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    x = _as_rounded(x)
    y = max_pool(x, window)
    return y, (x, y)


def _max_pool_backward(window: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    x, y = saved
    if window == 1:
        return (g,)
    (_, h, w, _), blocks, largest = x.shape, in_float32(_windows(x, window)), in_float32(y)
    maxima = sum((corner == largest).astype(largest.dtype) for corner in _corners(blocks))
    # A barrier, or it would be computed again for each place of the window.
    share = in_float32(jax.lax.optimization_barrier((in_float32(g) / maxima).astype(g.dtype)))
    spread = jnp.where(blocks == largest[:, :, None, :, None], share[:, :, None, :, None], 0).astype(g.dtype)
    n, rows, _, columns, _, c = spread.shape
    rest = ((0, 0), (0, h - rows * window), (0, w - columns * window), (0, 0))
    return (jnp.pad(spread.reshape(n, rows * window, columns * window, c), rest),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _as_rounded(x: jax.Array) -> jax.Array:
    """`x`, to be compared with its own maxima.

    XLA may compute with what has not been rounded to the dtype of `x` yet (`xla_allow_excess_precision`), once here and once
    not there; no value would equal the largest then, and the gradient would vanish.
    """
    return jax.lax.optimization_barrier(x)


def global_pool(x: jax.Array, how: GlobalPool) -> jax.Array:
    """Maps a feature map [N, H, W, C] to a vector an image: [N, C], or [N, H * W * C] where it is flattened."""
    values = in_float32(_as_rounded(x) if how in (GlobalPool.MAX, GlobalPool.MAX_PLUS_MEAN) else x)
    match how:
        case GlobalPool.FLATTEN:
            return x.reshape(x.shape[0], -1)
        case GlobalPool.MEAN:
            pooled = values.mean((1, 2))
        case GlobalPool.MAX:
            pooled = values.max((1, 2))
        case GlobalPool.MAX_PLUS_MEAN:
            pooled = values.max((1, 2)) + values.mean((1, 2))
    return pooled.astype(x.dtype)


def _windows(x: jax.Array, window: int) -> jax.Array:
    """[N, H, W, C] -> [N, rows, window, columns, window, C], without the pixels left over at the edges."""
    n, h, w, c = x.shape
    rows, columns = h // window, w // window
    cut = jax.lax.slice_in_dim(jax.lax.slice_in_dim(x, 0, rows * window, axis=1), 0, columns * window, axis=2)
    return cut.reshape(n, rows, window, columns, window, c)


def _corners(blocks: jax.Array) -> list[jax.Array]:
    """The window^2 slices [N, rows, columns, C] of the result of `_windows`."""
    rows = [jax.lax.index_in_dim(blocks, i, axis=2, keepdims=False) for i in range(blocks.shape[2])]
    return [jax.lax.index_in_dim(row, j, axis=3, keepdims=False) for row in rows for j in range(blocks.shape[4])]
