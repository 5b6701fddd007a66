import jax.numpy as jnp
import numpy as np

from cifar_flax.runtime.hashing import hash_bits


def lowbias32(x):
    """The published C code, in Python's integers."""
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


def test_hashes_are_the_published_ones():
    numbers = [0, 1, 2, 49_999, 2**31 - 1]
    np.testing.assert_array_equal(hash_bits(jnp.array(numbers, jnp.int32)), [lowbias32(x) for x in numbers])


def test_one_bit_of_the_input_changes_half_of_the_output():
    counters = jnp.arange(2000, dtype=jnp.uint32)
    for bit in (0, 7, 31):
        changed = np.asarray(hash_bits(counters) ^ hash_bits(counters ^ jnp.uint32(1 << bit)))
        shares = np.unpackbits(changed.view(np.uint8)).reshape(-1, 32).mean(0)
        np.testing.assert_allclose(shares, 0.5, atol=0.06)
