"""Steps in chunks, one a dispatch. Where chunks end depends on the step alone, so that a resumed run has the same ones."""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import jax

from cifar_flax.config import Config, ResolutionConfig

EPOCH_DIGITS = 6  # of numbers of epochs and of steps that count: 0.1 * 3 * 10, a little above 3, is 3
MAX_CHUNK_STEPS = 32  # steps of a chunk on accelerators: their dispatch costs nothing then, and a save is still at hand soon
MAX_CHUNK_BYTES = 2**29  # of its images: where they are streamed, a device holds those of up to four chunks
# Of a program, in dispatches, roughly. To trace one takes .9 s (fast:published) to 1.6 s (summit) of a core of an AMD EPYC
# (2026-11-29), under Python's lock, whatever the accelerator; a dispatch takes about a millisecond of Python.
PROGRAM_COST = 1000


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

    All have one length, but for single steps where another one would be needed. It is the length with which compiling the
    programs and dispatching all chunks of the training take the least time.
    """

    def __init__(self, config: Config, steps_per_epoch: int, batch_bytes: int) -> None:
        """Plans the training of `config`, of whose batches the images take `batch_bytes`, as uint8."""
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps(config, steps_per_epoch)
        self._resolutions, self._save_every = config.train.resolutions, config.checkpoint.every_steps
        wanted = config.train.steps_per_dispatch
        automatic = 1 if jax.default_backend() == "cpu" else max(1, min(MAX_CHUNK_STEPS, MAX_CHUNK_BYTES // batch_bytes))
        longest = min(steps_per_epoch, automatic if wanted == "auto" else wanted)
        self._length = min(range(longest, 0, -1), key=self._cost)

    def epoch(self, epoch: int, first: int) -> Iterator[Chunk]:
        """Yields the chunks of an epoch, counted from 0, from update number `first` on."""
        begin = epoch * self.steps_per_epoch
        for start, end in self._segments:
            if begin <= start < begin + self.steps_per_epoch:
                step = max(start, first)
                while step < end:
                    whole = (step - start) % self._length == 0 and step + self._length <= end
                    yield Chunk(step, self._length if whole else 1, self.image_size(step))
                    step += self._length if whole else 1

    def programs(self, first: int) -> Sequence[tuple[int | None, int]]:
        """The (image_size, length) of all chunks from update number `first` on, each once, in the order of their first use."""
        epoch = first // self.steps_per_epoch
        begun = [(chunk.image_size, chunk.length) for chunk in self.epoch(epoch, first)]
        rest = (
            (self.image_size(start), length)
            for start, end in self._segments
            if start >= (epoch + 1) * self.steps_per_epoch
            for length in _dispatches(end - start, self._length)
        )
        return list(dict.fromkeys([*begun, *rest]))

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch has ended after so many updates, be it cut off as the last."""
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def save_due_by_step(self, chunk: Chunk) -> bool:
        """Whether the config wants a checkpoint after one of the updates of a chunk, within an epoch."""
        return self._save_every is not None and chunk.end // self._save_every > chunk.first // self._save_every

    def image_size(self, step: int) -> int | None:
        """Pixels a side to train on after so many updates; None for the images' own."""
        return next((part.size for part in self._resolutions if step < self._end(part)), None)

    @cached_property
    def _segments(self) -> Sequence[tuple[int, int]]:
        """Updates made before and after steps of one epoch and one resolution, in their order."""
        changes = {self._end(part) for part in self._resolutions}
        return list(pairwise(sorted({*range(0, self.total_steps, self.steps_per_epoch), *changes, self.total_steps})))

    def _cost(self, length: int) -> int:
        """What chunks of this length cost over the whole training, in dispatches."""
        programs, dispatches = set(), 0
        for start, end in self._segments:
            counts = _dispatches(end - start, length)
            programs |= {(self.image_size(start), steps) for steps in counts}
            dispatches += sum(counts.values())
        return PROGRAM_COST * len(programs) + dispatches

    def _end(self, part: ResolutionConfig) -> int:
        return math.ceil(round(part.until * self.total_steps, EPOCH_DIGITS))


def _dispatches(steps: int, length: int) -> dict[int, int]:
    """The number of dispatches by their number of steps: those of `length`, and single ones for what is left over."""
    whole, rest = divmod(steps, length)
    return {**({length: whole} if whole else {}), **({1: rest} if rest else {})}
