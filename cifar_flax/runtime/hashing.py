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


def counter_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Random bits, uint32 of a shape, from a PRNG key.

    The counters are hashed twice, with a word of the key each time: one hash of counter + word would give arrays that are the
    same sequence from different starts.
    """
    first, second = jax.random.bits(key, (2,))
    counters = jnp.zeros(shape, jnp.uint32)
    for axis, size in enumerate(shape):  # not one iota reshaped, which several devices could not share
        counters = counters * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return hash_bits(hash_bits(counters + first) ^ second)
