"""A writer behind a thread of its own, which knows what was sent: experiment trackers, and writers of a user's own."""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from absl import logging

from cifar_flax.errors import CifarFlaxError, UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from cifar_flax.files.folder import make_folder
from cifar_flax.files.redact import named_reason
from cifar_flax.training.records import curves, read_records
from cifar_flax.training.writers.session import FIELD, OpenWriter, Session

FOLDER = "trackers"
CLOSE_SECONDS = 30.0  # for which the end of a run waits until all is sent
METHODS = ("scalars", "picture", "hyperparameters", "close")  # of a Writer
STATE_SECONDS = 1.0  # of sending, after which it is noted how far it has come


class Sender:
    """Sends each point of a curve once, in the order of steps, whatever becomes of the processes that train.

    What was sent is in WORKDIR/trackers/NAME.json: the run's id in the tracker, and of each curve the last step. What a resumed
    run repeats is left out; what the tracker has missed, because it failed or was not named before, is sent from metrics.jsonl.
    """

    def __init__(self, name: str, open_writer: OpenWriter, session: Session) -> None:
        """Opens the writer, and begins with what it has missed.

        Raises:
          UserError: it cannot start, has no text as its `id` or lacks a method, or the record of what was sent is damaged.
        """
        self._name, self._path = name, session.workdir / FOLDER / f"{name.replace(':', '.')}.json"
        session_id, self._sent = _read_state(self._path)
        try:
            self._writer = open_writer(replace(session, id=session_id))
        except CifarFlaxError:
            raise
        except Exception as e:  # of any package, and of a user's own file
            raise UserError(f"{FIELD}: {name} cannot start: {named_reason(e)}") from e
        _check_methods(name, self._writer)
        self._id, self._buffered = _id_of(name, self._writer), getattr(self._writer, "buffered", False)
        make_folder(self._path.parent)
        self._write_state()
        self._failed = self._closing = False
        self._deadline = math.inf
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        for record in read_records(session.workdir):
            self.scalars(record["step"], curves(record))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Sends a point of each of the named curves, but for those that were sent and values that are not finite."""

        def send() -> None:
            if new := self._new(step, {name: value for name, value in values.items() if math.isfinite(value)}):
                self._writer.scalars(step, new)
                self._sent |= dict.fromkeys(new, step)

        self._put(send)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Sends a picture, uint8 [H, W, C], if it was not sent before."""

        def send() -> None:
            if self._new(step, {name: picture}):
                self._writer.picture(step, name, picture)
                self._sent[name] = step

        self._put(send)

    def hyperparameters(self, step: int, values: dict[str, Any], scores: dict[str, float]) -> None:
        """Sends what was chosen and what came of it, again if need be, and the scores of another checkpoint than before."""

        def send() -> None:
            new = self._new(step, scores)
            self._writer.hyperparameters(step, values, new)
            self._sent |= dict.fromkeys(new, step)

        self._put(send)

    def set_close_deadline(self, deadline: float) -> None:
        """Sets the deadline of `close`, in time.monotonic()."""
        self._deadline = deadline

    def close(self) -> None:
        """Waits until all is sent, but not for long; then nothing more is sent."""
        self._queue.put(None)
        begin = time.monotonic()
        deadline = min(begin + CLOSE_SECONDS, self._deadline)
        self._thread.join(max(0.0, deadline - begin))
        if self._thread.is_alive():
            self._closing = True
            # Until what is on its way has arrived, and is noted; several that share a deadline do so at the same time.
            self._thread.join(max(0.0, deadline + STATE_SECONDS - time.monotonic()))
            logging.warning("%s: not all was sent in time; the same command, without --restart, sends the rest", self._name)

    def _new(self, step: int, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if step > self._sent.get(name, -1)}

    def _put(self, send: Callable[[], None]) -> None:
        if not self._failed:
            self._queue.put(send)

    def _run(self) -> None:
        """The thread: one warning, and nothing more is sent."""
        try:
            noted = time.monotonic()
            while not self._closing and (send := self._queue.get()) is not None:
                send()
                if not self._buffered and (self._queue.empty() or self._closing or time.monotonic() > noted + STATE_SECONDS):
                    self._write_state()
                    noted = time.monotonic()
            self._writer.close()
            self._write_state()
        except Exception as e:  # of any package, and of a user's own file
            self._failed = True
            logging.warning(
                "%s: %s; training goes on without it, the same command, without --restart, sends the rest",
                self._name,
                named_reason(e),
            )
            with contextlib.suppress(OSError):  # a full disk has ended the training, or is about to
                if not self._buffered:
                    self._write_state()

    def _write_state(self) -> None:
        write_text(self._path, dumps_checksummed({"id": self._id, "sent": dict(sorted(self._sent.items()))}))


def _check_methods(name: str, writer: Any) -> None:
    if missing := [method for method in METHODS if not callable(getattr(writer, method, None))]:
        raise UserError(
            f"{FIELD}: {name} returned a {type(writer).__name__} without {', '.join(missing)}; expected an object with the "
            f"methods {', '.join(METHODS)}"
        )


def _id_of(name: str, writer: Any) -> str:
    """What the writer calls itself; "" where it has no id or None."""
    session_id = getattr(writer, "id", None)
    if session_id is not None and not isinstance(session_id, str):
        raise UserError(f"{FIELD}: {name} has the id {session_id!r}; expected text, such as str({session_id!r})")
    return session_id or ""


def _read_state(path: Path) -> tuple[str, dict[str, int]]:
    """The id of the run in the tracker, and of each curve the last step that was sent."""
    try:
        state = read_checksummed(path)
        session_id, sent = state["id"], state["sent"]
        if not isinstance(session_id, str) or not all(type(step) is int for step in sent.values()):
            raise ValueError("not a record of what was sent")
    except FileNotFoundError:
        return "", {}
    except (ValueError, KeyError, AttributeError) as e:
        raise UserError(f"{path}: damaged: {e}; remove it, and all is sent again to another run of the tracker") from None
    return session_id, sent
