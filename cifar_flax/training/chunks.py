"""Steps in chunks, one a dispatch. Where chunks end depends on the step alone, so that a resumed run has the same ones."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from cifar_flax.config import Config, ResolutionConfig

EPOCH_DIGITS = 6  # of numbers of epochs and of steps that count: 0.1 * 3 * 10, a little above 3, is 3
MAX_CHUNK_STEPS = 32  # steps of a chunk on accelerators: their dispatch costs nothing then, and a save is still at hand soon
MAX_CHUNK_BYTES = 2**29  # of its images: where they are streamed, a device holds those of up to four chunks


class Chunk(NamedTuple):
    """Steps that are made in one dispatch.

    Attributes:
      first: updates made before it.
      length: steps in it.
      image_size: pixels a side that all of them train on; None for the images' own.
    """

    first: int
    length: int
    image_size: int | None

    @property
    def end(self) -> int:
        """Updates made after it."""
        return self.first + self.length


def total_steps(config: Config, steps_per_epoch: int) -> int:
    """The updates of a training; a last one begun counts, as in cifar10-airbench."""
    return min(_begun(config.train.epochs * steps_per_epoch), total_epochs(config) * steps_per_epoch)


def total_epochs(config: Config) -> int:
    """The epochs of a training, of which the last may be cut off."""
    return _begun(config.train.epochs)


def _begun(number: float) -> int:
    return max(1, math.ceil(round(number, EPOCH_DIGITS)))


class ChunkPlan:
    """The division of steps into dispatches; chunks end with an epoch and with a resolution.

    All have one length, but for single steps where another one would be needed: each length is a program to be compiled, for
    seconds, and a dispatch takes a millisecond.
    """

    def __init__(self, config: Config, steps_per_epoch: int, batch_bytes: int) -> None:
        """Plans the training of `config`, of whose batches the images take `batch_bytes`, as uint8."""
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps(config, steps_per_epoch)
        self._resolutions = config.train.resolutions
        wanted = config.train.steps_per_dispatch
        automatic = 1 if jax.default_backend() == "cpu" else max(1, min(MAX_CHUNK_STEPS, MAX_CHUNK_BYTES // batch_bytes))
        self._length = _most_even(steps_per_epoch, automatic if wanted == "auto" else wanted)

    def epoch(self, epoch: int, first: int) -> Iterator[Chunk]:
        """Yields the chunks of an epoch, counted from 0, from update number `first` on, where a chunk has ended."""
        begin = epoch * self.steps_per_epoch
        end = min(begin + self.steps_per_epoch, self.total_steps)
        stops = sorted({*range(begin, end, self._length), *self._resolution_changes(), end})
        for stop in stops:
            if first < stop <= end:
                length = self._length if stop - first == self._length else 1
                for step in range(first, stop, length):
                    yield Chunk(step, length, self.image_size(step))
                first = stop

    def programs(self, first: int) -> Sequence[tuple[int | None, int]]:
        """The (image_size, length) of all chunks from update number `first` on, each once, in the order of their first use."""
        seen: dict[tuple[int | None, int], None] = {}
        epochs = range(first // self.steps_per_epoch, math.ceil(self.total_steps / self.steps_per_epoch))
        # All epochs without a change of resolution are alike, but for a last one that is cut off.
        changes = {change // self.steps_per_epoch for change in self._resolution_changes()}
        for epoch in sorted({*epochs[:2], *(e for c in changes for e in (c, c + 1) if e in epochs), *epochs[-1:]}):
            for chunk in self.epoch(epoch, max(first, epoch * self.steps_per_epoch)):
                seen[chunk.image_size, chunk.length] = None
        return list(seen)

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch has ended after so many updates, be it cut off as the last."""
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def image_size(self, step: int) -> int | None:
        """Pixels a side to train on after so many updates; None for the images' own."""
        return next((part.size for part in self._resolutions if step < self._end(part)), None)

    def _resolution_changes(self) -> set[int]:
        """The updates before which the resolution changes."""
        return {self._end(part) for part in self._resolutions}

    def _end(self, part: ResolutionConfig) -> int:
        return math.ceil(round(part.until * self.total_steps, EPOCH_DIGITS))


def _most_even(steps: int, most: int) -> int:
    """The length, up to `most`, of which an epoch takes the fewest dispatches, with one for each step that is left over."""
    return min(range(min(steps, most), 0, -1), key=lambda length: steps // length + steps % length)
