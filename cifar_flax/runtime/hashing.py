"""Cheap pseudo-random bits from counters, for where the quality of a generator would be wasted."""

import jax
import jax.numpy as jnp


def hash_bits(x: jax.Array) -> jax.Array:
    """Hashes 32-bit integers of any shape to uint32; every bit of the result depends on every bit of the input.

    References:
      Chris Wellons, "Prospecting for Hash Functions", 2018 (https://nullprogram.com/blog/2018/07/31/): lowbias32.
    """
    x = x.astype(jnp.uint32)
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
