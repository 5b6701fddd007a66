"""TensorBoard event files, without TensorFlow."""

import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import hparams, image, scalar

from cifar_flax.files.folder import make_folder


class TensorBoard:
    """Writes in the calling thread, so that a full disk is an error there and not a thread that died unseen."""

    def __init__(self, workdir: Path, first_step: int) -> None:
        """Opens a new event file; TensorBoard drops what older files of the run say of `first_step` and later."""
        folder = workdir / "tensorboard"
        make_folder(folder)
        # TensorBoard reads files in the order of their names, which rise even where the clock was set back.
        sessions = [int(match[1]) for path in folder.iterdir() if (match := re.match(r"events\.session(\d+)\.", path.name))]
        self._writer = EventsWriter(str(folder / f"events.session{max(sessions, default=0) + 1:06d}"))
        start = SessionLog(status=SessionLog.SessionStatus.START)
        self._writer.write_event(Event(wall_time=time.time(), step=first_step, session_log=start))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each of the named curves, but for values that are not finite."""
        for name, value in values.items():
            if not math.isfinite(value):
                continue
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
        self._writer.flush()

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, C], C 1 or 3."""
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=image(name, picture, dataformats="HWC")))
        self._writer.flush()

    def hyperparameters(self, step: int, values: dict[str, Any], scores: dict[str, float]) -> None:
        """Adds a row to the hparams tab: what was chosen, as strings, booleans and numbers, and what came of it."""
        for summary in hparams(values, scores):
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        self.scalars(step, scores)

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
