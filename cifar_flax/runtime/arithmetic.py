"""JAX's arithmetic as the commands have it, for callers who have set JAX otherwise, as in a notebook with float64."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import jax


@contextmanager
def standard_arithmetic() -> Iterator[None]:
    """Context, or decorator, in which this thread computes with JAX's defaults: float32, types and ranks promoted.

    A checkpoint holds float32 and int32 arrays and the network's weights are made from Threefry keys, whatever the caller uses.
    """
    with ExitStack() as stack:
        for setting in (
            jax.enable_x64(False),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            jax.default_prng_impl("threefry2x32"),
            jax.threefry_partitionable(True),
            jax.default_matmul_precision(None),
            jax.disable_jit(False),
            jax.debug_nans(False),
            jax.debug_infs(False),
        ):
            stack.enter_context(setting)
        yield
