"""Activation functions, computed in float32 and rounded once."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.config.types import Activation
from cifar_flax.runtime.loops import in_float32, materialized

Function = Callable[[jax.Array], jax.Array]


@jax.custom_jvp
def elu(x: jax.Array) -> jax.Array:
    """Exponential linear unit: x above 0, exp(x) - 1 below. Its gradient is read off its value, with no second exponential."""
    values = in_float32(x)
    return jnp.where(values > 0, values, jnp.exp(jnp.minimum(values, 0)) - 1).astype(x.dtype)


@elu.defjvp
def _elu_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    y = materialized(elu(primals[0]))
    values = in_float32(y)
    return y, (in_float32(tangents[0]) * jnp.where(values > 0, 1, values + 1)).astype(y.dtype)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """Gaussian error linear unit, x times the normal distribution function of x."""
    return _gelu(in_float32(x)).astype(x.dtype)


def _gelu(x: jax.Array) -> jax.Array:
    return nn.gelu(x, approximate=False)


def _gelu_backward(x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    _, vjp = jax.vjp(_gelu, in_float32(materialized(x)))  # computed anew: XLA would keep a float32 map of the forward pass
    return (vjp(in_float32(g))[0].astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


def _rounded_once(function: Function) -> Function:
    return lambda x: function(in_float32(x)).astype(x.dtype)


ACTIVATIONS: dict[Activation, Function] = {
    Activation.LINEAR: lambda x: x,
    Activation.RELU: _rounded_once(nn.relu),
    Activation.ELU: elu,
    Activation.GELU: gelu,
    Activation.SILU: _rounded_once(nn.silu),
    Activation.TANH: _rounded_once(jnp.tanh),
    Activation.SIGMOID: _rounded_once(nn.sigmoid),
    # That of Keras 2, which the blog posts used; Keras 3 has relu6(x + 3) / 6.
    Activation.HARD_SIGMOID: _rounded_once(lambda x: jnp.clip(0.2 * x + 0.5, 0, 1)),
}
