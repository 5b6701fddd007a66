"""Euclidean norms of parameters and gradients."""

from typing import Any

import jax
import jax.numpy as jnp

from cifar_flax.runtime.loops import materialized, row_groups


def norm(x: jax.Array) -> jax.Array:
    """Root of the sum of squares of an array: []."""
    return jnp.sqrt(_sum_of_squares(x))


def tree_norm(tree: Any) -> jax.Array:
    """Root of the sum of squares of all arrays of a tree: []."""
    return jnp.sqrt(sum(_sum_of_squares(x) for x in jax.tree.leaves(tree)))


def _sum_of_squares(x: jax.Array) -> jax.Array:
    """On a CPU in two steps: XLA takes five times as long there over one sum of a large kernel."""
    if jax.default_backend() != "cpu":
        return jnp.square(x).sum()
    return materialized(jnp.square(row_groups(jnp.atleast_1d(x))).sum(1)).sum()
