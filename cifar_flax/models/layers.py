"""Layers and functions that the networks share, written so that XLA runs them well on a CPU too."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.config import Activation, Initializer

ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    Activation.LINEAR: lambda x: x,
    Activation.RELU: nn.relu,
    Activation.ELU: nn.elu,
    Activation.GELU: lambda x: nn.gelu(x, approximate=False),
    Activation.SILU: nn.silu,
    Activation.TANH: jnp.tanh,
    Activation.SIGMOID: nn.sigmoid,
    Activation.HARD_SIGMOID: nn.hard_sigmoid,
}

INITIALIZERS: dict[Initializer, nn.initializers.Initializer] = {
    Initializer.GLOROT_UNIFORM: nn.initializers.glorot_uniform(),
    Initializer.HE_NORMAL: nn.initializers.he_normal(),
    Initializer.LECUN_NORMAL: nn.initializers.lecun_normal(),
}


def max_pool(x: jax.Array, window: int) -> jax.Array:
    """Max pooling with stride = window and no padding: [N, H, W, C] -> [N, H // window, W // window, C].

    Reshape and max, not `reduce_window`: the gradient of that is select-and-scatter, several times slower on a CPU. Where a
    window has several maxima, its gradient is shared among them.

    Raises:
      ValueError: the map is smaller than the window.
    """
    if window == 1:
        return x
    n, h, w, c = x.shape
    if min(h, w) < window:
        raise ValueError(f"a {h}x{w} map is too small for {window}x{window} pooling")
    rows, columns = h // window, w // window
    x = x[:, : rows * window, : columns * window]
    return x.reshape(n, rows, window, columns, window, c).max((2, 4))
