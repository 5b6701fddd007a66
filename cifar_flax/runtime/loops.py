"""Loops over feature maps in a form that XLA's CPU backend runs fast."""

import jax
import jax.numpy as jnp

MAX_GROUP_ROWS = 16  # rows that are summed at a time; XLA's loop over 32 is not unrolled, and takes two to three times as long


def in_float32(x: jax.Array) -> jax.Array:
    """An array in float32, or as it is where its dtype has more bits: for a loop that rounds once, where it writes its result.

    XLA converts within the loop, so that no float32 copy of a map is kept. It takes several times as long over a loop that
    computes in bfloat16.
    """
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def materialized(x: jax.Array) -> jax.Array:
    """An array that is in memory before it is used, on a CPU: XLA computes a map anew within each loop that reads it."""
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x


def row_groups(x: jax.Array) -> jax.Array:
    """[..., C] as [groups, rows of a group, C], to be summed over the rows of a group and then over the groups.

    XLA's CPU backend unrolls a short reduction, and takes several times as long over one of many rows.
    """
    rows = x.size // x.shape[-1]
    group = max(size for size in range(1, min(rows, MAX_GROUP_ROWS) + 1) if rows % size == 0)
    return x.reshape(-1, group, x.shape[-1])
