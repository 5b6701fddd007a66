"""Calls in threads that do not hold up the end of the process."""

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
T = TypeVar("T")
AT_ONCE = max(1, (os.cpu_count() or 1) // 4)  # calls at a time: each may use several cores
CHECK_SECONDS = 0.1

_slots = threading.BoundedSemaphore(AT_ONCE)
_running: set[threading.Thread] = set()
_ending = threading.Event()


def submit(call: Callable[[], T]) -> Future[T]:
    """Calls it in a thread; calls that are made earlier begin earlier.

    At the end of the process, calls that have not begun are dropped. Python must not end while C++ code runs in a thread of it,
    so a call that has begun is waited for. What cannot wait, such as a process that was told to stop, checks `busy` and ends by
    `os._exit`.

    Returns:
      Its result; `result()` raises what the call raised.
    """
    future: Future[T] = Future()
    thread = threading.Thread(target=_run, args=(call, future), name="background", daemon=True)
    _running.add(thread)
    thread.start()
    return future


def wait(future: Future[T], check: Callable[[], None]) -> T:
    """The result of a call in a thread; raises what it raised.

    Args:
      future: from `submit`.
      check: called every tenth of a second until then; an exception in it ends the waiting, and not the call.
    """
    while not future.done():
        futures.wait([future], CHECK_SECONDS)
        check()
    return future.result()


def in_order(submit: Callable[[Item], Future[T]], items: Iterable[Item], ahead: int) -> Iterator[T]:
    """Yields the results of calls in threads, in the order of their items.

    Args:
      submit: starts the call for an item; anybody's threads may run it.
      items: what is submitted.
      ahead: number of calls that are submitted before the first is waited for; no more results than that are kept.
    """
    waiting: deque[Future[T]] = deque()
    for item in items:
        waiting.append(submit(item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def busy() -> bool:
    """Whether a call has not ended yet."""
    return bool(_running)


def _run(call: Callable[[], T], future: Future[T]) -> None:
    try:
        with _slots:
            if _ending.is_set() or not future.set_running_or_notify_cancel():
                future.cancel()
                return
            try:
                future.set_result(call())
            except BaseException as e:  # is the caller's
                future.set_exception(e)
    finally:
        _running.discard(threading.current_thread())


@atexit.register
def _drop_and_wait() -> None:
    _ending.set()
    for thread in list(_running):
        thread.join()
