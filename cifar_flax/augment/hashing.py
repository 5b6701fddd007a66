"""Cheap pseudo-random numbers from counters, where a generator's quality would be wasted."""

import jax
import jax.numpy as jnp


def hash_bits(x: jax.Array) -> jax.Array:
    """Scrambles 32-bit integers of any shape into uint32 whose every bit depends on every bit of the input.

    References:
      Chris Wellons, "Prospecting for Hash Functions", 2018 (https://nullprogram.com/blog/2018/07/31/): lowbias32.
    """
    x = x.astype(jnp.uint32)
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
