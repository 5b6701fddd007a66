"""Order of images in batches, and their way to the devices: functions of (seed, epoch, step), with no state to save."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import jax
import numpy as np
from flax import struct
from jax.sharding import NamedSharding

from cifar_flax.data.dataset import Dataset, rows_by_class
from cifar_flax.runtime.background import in_order
from cifar_flax.runtime.devices import put_global, replicated

LOADED_AHEAD = 2  # chunks that are gathered and copied while another one is computed


@struct.dataclass
class Batch:
    """Input of a training step.

    Attributes:
      images: uint8 [B, H, W, C].
      labels: int32 [B].
      indices: int32 [B], each image's row in the training set.
    """

    images: jax.Array
    labels: jax.Array
    indices: jax.Array


def epoch_batches(size: int, batch_size: int, seed: int, epoch: int, balance: np.ndarray | None = None) -> np.ndarray:
    """The batches of one epoch: int32 [size // batch_size, batch_size], no index twice unless classes are balanced.

    The epoch's permutation is drawn from (seed, epoch) alone. Images left over after the last full batch wait for the next
    epochs, so that all batches have one shape.

    Args:
      size: number of training images.
      batch_size: at most `size`.
      seed: of the run.
      epoch: counted from 0.
      balance: labels, int [size], of which each then has the same number of images, but for rounding: permutations of its own
        ones after another.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(size) if balance is None else _balanced_order(balance, rng)
    return order[: size // batch_size * batch_size].reshape(-1, batch_size).astype(np.int32)


def _balanced_order(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices, int [len(labels)], in random order."""
    rows_of = rows_by_class(labels)
    each = -(-len(labels) // len(rows_of))
    drawn = [np.concatenate([rng.permutation(rows) for _ in range(-(-each // len(rows)))])[:each] for rows in rows_of]
    return rng.permutation(np.concatenate(drawn))[: len(labels)]


class BatchSource(Protocol):
    """A source of training batches. All sources give the same batches, bit for bit.

    Attributes:
      resident: arrays that stay on the devices, an argument of the compiled program.
    """

    resident: Any

    def load(self, indices: np.ndarray) -> Any:
        """Copies what the program needs of a chunk to the devices.

        Args:
          indices: int32 [steps, (seeds,) B], rows of the training set; equal in every process.

        Returns:
          A tree of arrays [steps, (seeds,) B, ...], spread over the devices.
        """

    def shapes(self, batch: tuple[int, ...]) -> Any:
        """Shapes and dtypes of one step of what `load` returns.

        Args:
          batch: shape of the indices of a step, ((seeds,) B).

        Returns:
          The tree of `load` as `jax.ShapeDtypeStruct`, each of shape [*batch, ...].
        """

    def batch(self, resident: Any, loaded: Any) -> Batch:
        """The batch of one step, within the compiled program.

        Args:
          resident: as the attribute.
          loaded: one step of what `load` returned, arrays [(seeds,) B, ...].

        Returns:
          Images uint8 [(seeds,) B, H, W, C]; labels and indices int32 [(seeds,) B].
        """


class ResidentSource:
    """The images as uint8 in the memory of every device, gathered by the compiled program."""

    def __init__(self, dataset: Dataset, sharding: NamedSharding) -> None:
        """Copies `dataset` to the devices of `sharding`, by which indices are spread."""
        self._sharding = sharding
        arrays = np.asarray(dataset.images), dataset.labels
        self.resident: tuple[jax.Array, jax.Array] = put_global(arrays, replicated(sharding.mesh))  # type: ignore[arg-type]

    def load(self, indices: np.ndarray) -> Any:
        """The indices, int32 [steps, ..., B], on the devices."""
        return put_global(indices, self._sharding)

    def shapes(self, batch: tuple[int, ...]) -> Any:
        """Shape and dtype of the indices of a batch."""
        return jax.ShapeDtypeStruct(batch, np.int32)

    def batch(self, resident: Any, loaded: Any) -> Batch:
        """Gathers the rows of a step."""
        images, labels = resident
        return Batch(images[loaded], labels[loaded], loaded)


class StreamedSource:
    """The images in a memory-mapped file, gathered on the host; each process reads the rows of its own devices only."""

    def __init__(self, dataset: Dataset, sharding: NamedSharding) -> None:
        """Reads rows of `dataset` when they are asked for; `sharding` spreads batches over devices."""
        self._dataset, self._sharding = dataset, sharding
        self.resident: tuple[()] = ()

    def load(self, indices: np.ndarray) -> Batch:
        """The batches, [steps, ..., B, ...], on the devices."""

        def gather(rows: np.ndarray) -> jax.Array:
            shape = indices.shape + rows.shape[1:]

            def read(part: Any) -> np.ndarray:
                """The part of one device; the rows that it is not given are not read."""
                return np.asarray(rows[indices[part[: indices.ndim]]])

            return jax.make_array_from_callback(shape, self._sharding, read)

        return Batch(gather(self._dataset.images), gather(self._dataset.labels), put_global(indices, self._sharding))

    def shapes(self, batch: tuple[int, ...]) -> Any:
        """Shapes and dtypes of a batch."""
        images = jax.ShapeDtypeStruct((*batch, *self._dataset.images.shape[1:]), np.uint8)
        labels = jax.ShapeDtypeStruct(batch, np.int32)
        return Batch(images, labels, labels)  # type: ignore[arg-type]  # shapes, in the place of arrays

    def batch(self, resident: Any, loaded: Any) -> Batch:
        """The batch as it was loaded."""
        return loaded


def load_ahead(source: BatchSource, chunks: Iterable[np.ndarray]) -> Iterator[Any]:
    """Yields `source.load(indices)` of each chunk, in their order, while a thread loads the next ones."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        yield from in_order(lambda indices: thread.submit(source.load, indices), chunks, LOADED_AHEAD)


def round_up_batch(batch_size: int, size: int, devices: int) -> int:
    """`batch_size`, or the number of images where that is smaller, rounded up to a multiple of `devices`."""
    return -(-min(batch_size, size) // devices) * devices
