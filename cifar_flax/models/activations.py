"""Activation functions."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.config.types import Activation


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
    # That of Keras 2, which the blog posts used; Keras 3 has relu6(x + 3) / 6.
    Activation.HARD_SIGMOID: lambda x: jnp.clip(0.2 * x + 0.5, 0, 1),
}
