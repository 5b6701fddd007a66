"""Which images form which batch: pure functions of (seed, epoch, step), so that nothing needs to be saved or skipped."""

from collections.abc import Iterator

import numpy as np


def epoch_batches(size: int, batch_size: int, seed: int, epoch: int, first: int = 0) -> Iterator[np.ndarray]:
    """Yields the batches of one epoch, from the `first` on: int32 [batch_size] each, no index twice.

    The epoch's permutation is drawn from (seed, epoch) alone. What is left over after the last full batch waits for another
    epoch's permutation, so that all batches have one shape.

    Args:
      size: number of training images.
      batch_size: at most `size`.
      seed: the run's.
      epoch: counted from 0.
      first: batches to leave out, for a run that goes on within an epoch.
    """
    order = np.random.default_rng((seed, epoch)).permutation(size).astype(np.int32)
    for start in range(first * batch_size, size - batch_size + 1, batch_size):
        yield order[start : start + batch_size]


def round_up_batch(batch_size: int, size: int, devices: int) -> int:
    """`batch_size`, or where there are fewer images their number, rounded up to a multiple of `devices`."""
    return -(-min(batch_size, size) // devices) * devices


def masked_batches(size: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (indices int32 [batch_size], mask bool [batch_size]) that cover 0..size-1 once, in order.

    The last batch is filled up with index 0, masked out.
    """
    for start in range(0, size, batch_size):
        indices = np.arange(start, start + batch_size, dtype=np.int32)
        mask = indices < size
        yield np.where(mask, indices, 0), mask
