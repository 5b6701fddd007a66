"""Dropout with a mask from hashed counters."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.runtime.hashing import counter_bits
from cifar_flax.runtime.loops import in_float32


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
        return jnp.where(kept, in_float32(inputs) / (1 - self.rate), 0).astype(inputs.dtype)


def random_mask(key: jax.Array, shape: tuple[int, ...], probability: float) -> jax.Array:
    """Bools of a shape, each true with a probability, to within 2^-32."""
    return counter_bits(key, shape) < jnp.uint32(min(round(probability * 2**32), 2**32 - 1))
