"""Dropout with a mask from hashed counters."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.models.loops import widened
from cifar_flax.runtime.hashing import hash_bits


class Dropout(nn.Module):
    """flax.linen.Dropout without `broadcast_dims`, its mask from hashed counters in place of Threefry.

    XLA's CPU backend runs Threefry on one thread and takes a tenth of a step of `configs/wide.py` for its masks.

    Attributes:
      rate: probability that a value is set to 0; the others are divided by 1 - rate.
      deterministic: whether there is no dropout.
    """

    rate: float
    deterministic: bool

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps an array of any shape to one of the same shape and dtype."""
        if self.rate == 0 or self.deterministic:
            return inputs
        kept = random_mask(self.make_rng("dropout"), inputs.shape, 1 - self.rate)
        return jnp.where(kept, widened(inputs) / (1 - self.rate), 0).astype(inputs.dtype)


def random_mask(key: jax.Array, shape: tuple[int, ...], probability: float) -> jax.Array:
    """Bools of a shape, each true with a probability, to within 2^-32.

    The counters are hashed twice, with a word of the key each time: one hash of counter + word would give masks that are the
    same sequence from different starts.
    """
    first, second = jax.random.bits(key, (2,))
    counters = jnp.zeros(shape, jnp.uint32)
    for axis, size in enumerate(shape):  # not one iota reshaped, which several devices could not share
        counters = counters * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    bits = hash_bits(hash_bits(counters + first) ^ second)
    return bits < jnp.uint32(min(round(probability * 2**32), 2**32 - 1))
