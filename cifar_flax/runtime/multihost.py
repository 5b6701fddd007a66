"""Synchronisation of the processes that train one run together; with a single process all of it does nothing.

The processes make the same steps in the same order: a program over the devices of all hangs unless each of them enters it. So
whatever depends on one process, on its clock, its signals or its files, is exchanged first.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cifar_flax.errors import CifarFlaxError, Preempted, RunFailed, UserError
from cifar_flax.runtime.preemption import Interrupt

T = TypeVar("T")
SHARED_SECONDS = 60.0  # after which what is written on one host is seen on others: NFS caches names for up to 60 s
MESSAGE_BYTES = 2000  # of an error that is sent to the other processes


def is_main_process() -> bool:
    """Whether this is process 0, which writes the records and prints."""
    return jax.process_index() == 0


def raise_on_all_hosts(call: Callable[[], T]) -> T:
    """Calls it in every process and waits for all; an error of one process is raised in all of them.

    Returns:
      The result of this process.

    Raises:
      CifarFlaxError: of the first process that has one, with its number before the message elsewhere.
    """
    if jax.process_count() == 1:
        return call()
    result, error = None, None
    try:
        result = call()
    except (CifarFlaxError, OSError) as e:
        error = e
    codes, texts = multihost_utils.process_allgather(_pack(error))
    if error is not None:
        raise error
    if codes.any():
        process = int(np.flatnonzero(codes)[0])
        kind = next(kind for kind in (UserError, Preempted, RunFailed) if kind.exit_code == codes[process])
        text = bytes(texts[process][texts[process] > 0]).decode(errors="ignore")
        raise kind(f"process {process}: {text}")
    return result  # type: ignore[return-value]  # T may be None


def check_same_on_all_hosts(values: Mapping[str, str]) -> None:
    """Checks that all processes have the same values; the names, the same in all, are for the message.

    Raises:
      UserError: a value differs; in every process.
    """
    if jax.process_count() == 1:
        return
    digests = [
        np.frombuffer(hashlib.sha256(value.encode(errors="surrogatepass")).digest(), np.uint8) for value in values.values()
    ]
    of_all = multihost_utils.process_allgather(np.stack(digests))
    for name, of_value in zip(values, of_all.swapaxes(0, 1), strict=True):
        if others := [process for process, digest in enumerate(of_value) if (digest != of_value[0]).any()]:
            raise UserError(f"process {others[0]} differs from process 0 in {name}; all train one run, of one config and data")


def run_on_main_process(call: Callable[[], T]) -> T | None:
    """Calls it in process 0 alone; returns its result there and None elsewhere. An error is raised in every process."""
    return raise_on_all_hosts(lambda: call() if is_main_process() else None)


def broadcast_from_main(value: bool) -> bool:
    """Process 0's value, on every process; files and clocks may give each process another one."""
    return value if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def check_shared(path: Path) -> None:
    """Waits until every process sees the file that process 0 has just written: a network file system may take a while.

    Raises:
      UserError: one sees none, or another; in every process.
    """
    if jax.process_count() == 1:
        return

    def digest() -> np.ndarray:
        content = b""
        with contextlib.suppress(OSError):  # of one host, while the others wait
            content = path.read_bytes()
        return np.frombuffer(hashlib.sha256(content).digest(), np.uint8)

    expected = np.asarray(multihost_utils.broadcast_one_to_all(digest()))

    def wait() -> None:
        end = time.monotonic() + SHARED_SECONDS
        while (digest() != expected).any():
            if time.monotonic() > end:
                raise UserError(f"{path.absolute()} is not what process 0 has written there; all need one shared --workdir")
            time.sleep(0.1)

    raise_on_all_hosts(wait)


class StopConsensus:
    """Agreement of all processes to stop at the same step, and to save at the steps that process 0 chooses.

    JAX's own synchronisation point for preemption (`multihost_utils.reached_preemption_sync_point`, which Orbax calls) knows of
    SIGTERM only. Here Ctrl-C, `--max_minutes` and saves by the clock of process 0 count too. An exchange waits for the devices,
    so there is one about every second.
    """

    SECONDS = 1.0

    def __init__(self) -> None:
        self._next_step = 0

    def __call__(
        self, step: int, state: Any, interrupt: Interrupt, save: bool, steps_per_second: float, now: bool = False
    ) -> bool:
        """Called by every process after the same steps; returns whether to save.

        Args:
          step: updates made.
          state: the state after them, which is waited for: on CPUs, two programs that communicate at once block each other.
          interrupt: holds the request to stop, if there is one.
          save: whether a save is due by the clock of this process; that of process 0 counts.
          steps_per_second: recent speed; that of process 0 decides when the next exchange is.
          now: exchanges in any case.

        Raises:
          StopRequested: one of the processes was told to stop.
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


def _pack(error: Exception | None) -> tuple[np.ndarray, np.ndarray]:
    """Exit code, uint8 [], 0 without an error; and message, uint8 [MESSAGE_BYTES]."""
    text = np.zeros(MESSAGE_BYTES, np.uint8)
    encoded = b"" if error is None else str(error).encode(errors="backslashreplace")[:MESSAGE_BYTES]
    text[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    code = 0 if error is None else getattr(error, "exit_code", RunFailed.exit_code)
    return np.asarray(code, np.uint8), text
