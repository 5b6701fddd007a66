"""What the processes of one training agree on, where several hosts share it; with a single process all of this is nothing.

They make the same steps in the same order, because every program with the mesh in it is entered by all or hangs. So what
depends on one of them, on its clock, its signals or its files, is settled between them first.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cifar_flax.errors import CifarFlaxError, Preempted, RunFailed, UserError
from cifar_flax.runtime.preemption import Interrupt

T = TypeVar("T")
MESSAGE_BYTES = 2000  # of an error, on its way to the other processes


def is_main_process() -> bool:
    """Whether this process is the one that writes and prints: the first."""
    return jax.process_index() == 0


def raise_on_all_hosts(call: Callable[[], T]) -> T:
    """Returns what `call` returns here, once all processes have come through it; raises in all what it raised in any."""
    if jax.process_count() == 1:
        return call()
    result, error = None, None
    try:
        result = call()
    except (CifarFlaxError, OSError) as e:
        error = e
    codes, texts = multihost_utils.process_allgather(_packed(error))
    if error is not None:
        raise error
    if codes.any():
        process = int(np.flatnonzero(codes)[0])
        kind = next(kind for kind in (UserError, Preempted, RunFailed) if kind.exit_code == codes[process])
        text = bytes(texts[process][texts[process] > 0]).decode(errors="ignore")
        raise kind(f"process {process}: {text}")
    return result  # type: ignore[return-value]  # T may be None


def run_on_main_process(call: Callable[[], T]) -> T | None:
    """Has the first process alone call it; returns what it returns there, and None in the others; raises as above."""
    return raise_on_all_hosts(lambda: call() if is_main_process() else None)


def broadcast_from_main(fact: bool) -> bool:
    """The first process' answer to a question that files or clocks may answer differently in each."""
    return fact if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.asarray(fact)))


class StopConsensus:
    """Asked between steps, by all processes alike: whether one of them wants to stop, and whether to save.

    They exchange that about once a second, by the speed of the first process, for it drains the devices.
    """

    SECONDS = 1.0

    def __init__(self) -> None:
        self._next_step = 0

    def __call__(
        self, step: int, state: Any, interrupt: Interrupt, save: bool, steps_per_second: float, now: bool = False
    ) -> bool:
        """Casts this process' vote, and returns whether to save.

        Args:
          step: updates made.
          state: what they lead to; waited for, because on CPUs two programs that exchange something at once lock each other.
          interrupt: asks to stop, or does not.
          save: whether it is time to save, by this process' clock. The first process' counts.
          steps_per_second: how fast training is.
          now: exchange votes now, in any case.

        Raises:
          StopRequested: one of the processes is to stop.
        """
        if jax.process_count() == 1:
            interrupt.check()
            return save
        if step < self._next_step and not now:
            return False
        jax.block_until_ready(state)
        reason = interrupt.requested
        votes = multihost_utils.process_allgather(np.asarray([bool(reason), save, self.SECONDS * steps_per_second], np.float32))
        self._next_step = step + max(1, int(votes[0, 2]))
        if votes[:, 0].any():
            interrupt.stop(reason or "another process is told to stop")
        return bool(votes[0, 1])


def _packed(error: Exception | None) -> tuple[np.ndarray, np.ndarray]:
    text = np.zeros(MESSAGE_BYTES, np.uint8)
    encoded = b"" if error is None else str(error).encode()[:MESSAGE_BYTES]
    text[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    code = 0 if error is None else getattr(error, "exit_code", RunFailed.exit_code)
    return np.asarray(code, np.uint8), text
