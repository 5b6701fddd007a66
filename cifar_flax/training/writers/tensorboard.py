"""TensorBoard event files, without TensorFlow."""

import math
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter, masked_crc32c
from tensorboardX.summary import hparams, image, scalar

from cifar_flax.files.folder import make_folder

Keep = Callable[[str, int], bool]
NAME = re.compile(r"events\.session(\d+)\.")
LONGEST_EVENT = 1 << 28  # bytes
STEPS, EPOCHS = ("step/",), ("train/", "validation/", "validation_raw/", "first_layer")  # how tags of a training begin


def recorded_by(step: int, epoch_step: int) -> "Keep":
    """Tells which events belong to a training that has come to `step`, and whose last epoch ended with `epoch_step`."""
    return lambda tag, at: at <= step if tag.startswith(STEPS) else tag.startswith(EPOCHS) and at <= epoch_step


def recorded_while_training(tag: str, step: int) -> bool:
    """Whether an event was written by a training, and not at its end."""
    return tag.startswith(STEPS + EPOCHS)


class TensorBoard:
    """Writes in the calling thread, so that a full disk is an error there and not a thread that died unseen."""

    def __init__(self, workdir: Path, keep: Keep) -> None:
        """Moves the events of earlier processes that `keep` selects to the head of a new file, and opens it.

        Args:
          workdir: the run directory; the files are in its folder `tensorboard`.
          keep: called with the tag and the step of an event.
        """
        folder = workdir / "tensorboard"
        make_folder(folder)
        # TensorBoard reads files in the order of their names, which rise even where the clock was set back.
        sessions = [(int(match[1]), path) for path in folder.iterdir() if (match := NAME.match(path.name)) and path.is_file()]
        earlier = [path for _, path in sorted(sessions)]
        number = max(sessions)[0] + 1 if sessions else 1
        name = f"events.session{number:06d}.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self._writer = RecordWriter(str(folder / name))  # whose file is closed even where what is left cannot be written
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        # A TensorBoard that watches forgets what it has read.
        start = SessionLog(status=SessionLog.SessionStatus.START)
        self._write(Event(wall_time=time.time(), step=0, session_log=start))
        seen: set[tuple[str, int]] = set()  # a process that was killed here has left two files with the same events
        for event in (event for path in earlier for event in read_events(path)):
            tags = {(value.tag, event.step) for value in event.summary.value}
            if tags and not tags <= seen and all(keep(*tag) for tag in tags):
                self._write(event)
                seen |= tags
        self._writer.flush()
        for path in earlier:
            path.unlink()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each of the named curves, but for values that are not finite."""
        for name, value in values.items():
            if not math.isfinite(value):
                continue
            self._write(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
        self._writer.flush()

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, C], C 1 or 3."""
        self._write(Event(wall_time=time.time(), step=step, summary=image(name, picture, dataformats="HWC")))
        self._writer.flush()

    def hyperparameters(self, step: int, values: dict[str, Any], scores: dict[str, float]) -> None:
        """Adds a row to the hparams tab: what was chosen, as strings, booleans and numbers, and what came of it."""
        for summary in hparams(values, scores):
            self._write(Event(wall_time=time.time(), step=step, summary=summary))
        self.scalars(step, scores)

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())


def read_events(path: Path) -> Iterator[Event]:
    """Yields the events of a file up to the first damaged one; each is its length, a checksum, the event, its checksum."""
    with path.open("rb") as file:
        while header := file.read(12):
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else LONGEST_EVENT
            content = file.read(length) if length < LONGEST_EVENT else b""
            if file.read(4) != struct.pack("<I", masked_crc32c(content)) or len(content) < length:
                logging.warning("%s: cut short or damaged; what follows is left out", path)
                return
            try:
                event = Event.FromString(content)
            except Exception:  # DecodeError, of a package that only tensorboardX depends on
                logging.warning("%s: holds what is no event; what follows is left out", path)
                return
            yield event
