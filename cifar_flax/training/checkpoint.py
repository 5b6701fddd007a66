"""Checkpoints of a run: asynchronous and atomic through Orbax, verified by a hash, restored on any number of devices."""

import functools
import hashlib
import json
import math
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from cifar_flax.config import CheckpointConfig
from cifar_flax.errors import RunFailed, UserError
from cifar_flax.files.checksum import verify_checksum, with_checksum
from cifar_flax.runtime.multihost import run_on_main_process
from cifar_flax.training.state import TrainState

SELECTION_METRIC = "top1"  # on the validation split; the highest is the best checkpoint


class Restored(NamedTuple):
    """A state from disk, and how many epochs had been validated and recorded when it was saved."""

    state: TrainState
    epochs_done: int


class Checkpoints:
    """The checkpoints under `workdir/checkpoints`: the latest few and the best by validation accuracy."""

    def __init__(self, workdir: Path, config: CheckpointConfig, read_only: bool = False) -> None:
        self.directory = workdir.absolute() / "checkpoints"
        self._read_only = read_only
        policies = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(config.keep_latest),
                checkpoint_managers.BestN(get_metric_fn=_selection, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        self._options = ocp.CheckpointManagerOptions(
            best_fn=_selection,
            preservation_policy=policies,
            read_only=read_only,
            save_interval_steps=0 if read_only else 1,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=not read_only,
        )
        self._manager = self._open()
        self._every_steps, self._every_seconds = config.every_steps, config.every_minutes * 60
        self._saved_at = time.monotonic()
        self._saved = (-1, -1)

    @staticmethod
    def any_in(workdir: Path) -> bool:
        """Whether a run that can be gone on with is there."""
        return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))

    def due_by_step(self, step: int) -> bool:
        """Whether the config wants a checkpoint after `step`, within an epoch."""
        return self._every_steps is not None and step % self._every_steps == 0

    def due_by_time(self) -> bool:
        """Whether it wants one by now."""
        return time.monotonic() - self._saved_at >= self._every_seconds

    def save(self, state: TrainState, epochs_done: int, scores: dict[str, float] | None = None) -> None:
        """Starts writing `state`, after the previous save has ended; returns as soon as the state may change.

        Args:
          state: what to save; a checkpoint of the same step and fewer epochs is replaced.
          epochs_done: epochs whose validation is over.
          scores: on the validation split, where they are known.

        Raises:
          RunFailed: this or the previous checkpoint cannot be written; older ones stay.
        """
        step = int(state.step)
        if self._saved == (step, epochs_done):
            return
        try:
            if step in self._manager.all_steps():
                self._manager.wait_until_finished()
                self._manager.delete(step)
            info = with_checksum({"sha256": digest(state), "epochs_done": epochs_done})
            items = ocp.args.Composite(state=ocp.args.StandardSave(state), info=ocp.args.JsonSave(info))
            self._manager.save(step, args=items, metrics=with_checksum(scores) if scores else {})
        except (OSError, ValueError, RuntimeError) as e:
            raise self._cannot_write(e) from e
        self._saved, self._saved_at = (step, epochs_done), time.monotonic()

    def wait(self) -> None:
        """Returns once all that was saved is on disk; raises as `save` does."""
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError, RuntimeError) as e:
            raise self._cannot_write(e) from e

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Waits for what is being written and releases the threads; an error that is on its way is not replaced by another."""
        try:
            self.wait()
            self._manager.close()
        except RunFailed:
            if error is None:
                raise

    def steps(self) -> list[int]:
        """The steps on disk, rising."""
        return sorted(self._manager.all_steps())

    def find(self, which: str | int) -> int:
        """The step that "latest", "best" or a number stands for; "best" is the latest where no scores are known.

        Raises:
          UserError: there is no such checkpoint.
        """
        steps = self.steps()
        if not steps:
            raise UserError(f"{self.directory.parent} holds no checkpoint yet; has it trained?")
        if which == "latest":
            return steps[-1]
        if which == "best":
            scored = [step for step in steps if self._manager.metrics(step)]
            return self._manager.best_step() if scored else steps[-1]
        if str(which).isdigit() and int(which) in steps:
            return int(which)
        raise UserError(f"no checkpoint {which!r}; expected best, latest or one of the steps {steps}")

    def restore(self, step: int, like: TrainState) -> Restored:
        """Reads one checkpoint into the shapes and shardings of `like`.

        Raises:
          UserError: it is damaged.
        """
        items = ocp.args.Composite(state=ocp.args.StandardRestore(like), info=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=items)
            info = verify_checksum(restored.info)
            intact = digest(restored.state) == info["sha256"]
        except Exception as e:  # a damaged file surfaces as whatever the layer that read it raises
            raise UserError(f"checkpoint {step} in {self.directory} is damaged ({_reason(e)})") from e
        if not intact:
            raise UserError(f"checkpoint {step} in {self.directory} is damaged (its hash differs)")
        return Restored(restored.state, info["epochs_done"])

    def restore_latest(self, like: TrainState) -> Restored | None:
        """Reads the newest intact checkpoint, moving damaged newer ones aside and saying so; None where there is none at all.

        Raises:
          UserError: there are checkpoints, and all are damaged. They stay where they are.
        """
        steps = self.steps()[::-1]
        for i, step in enumerate(steps):
            try:
                restored = self.restore(step, like)
            except UserError as e:
                logging.warning("%s", e)
                continue
            if i:
                logging.warning("falling back to checkpoint %d", step)
                run_on_main_process(functools.partial(self._set_aside, *steps[:i]))
                self._manager.close()
                self._manager = self._open()
            self._saved = (step, restored.epochs_done)
            return restored
        if steps:
            raise UserError(f"no checkpoint in {self.directory} is intact; --restart begins again and keeps this run beside")
        return None

    def _open(self) -> ocp.CheckpointManager:
        """Opens the manager, which reads the scores of all steps at once, after moving aside those that cannot be read."""
        if self._read_only:
            self._look_at_scores()
        else:
            run_on_main_process(self._look_at_scores)
        verbosity = logging.get_verbosity()
        if self._read_only:  # of which Orbax would warn
            logging.set_verbosity(logging.ERROR)
        try:
            return ocp.CheckpointManager(self.directory, options=self._options)
        finally:
            logging.set_verbosity(verbosity)

    def _look_at_scores(self) -> None:
        for scores in sorted(self.directory.glob("*/metrics/metrics")):
            step = scores.parts[-3]
            if not step.isdigit():  # still being written, or left by a kill
                continue
            try:
                if found := json.loads(scores.read_text(encoding="utf-8")):  # {} where there are no scores
                    verify_checksum(found)
            except ValueError:
                if self._read_only:
                    raise UserError(f"checkpoint {step} in {self.directory} has damaged scores") from None
                logging.warning("checkpoint %s in %s has damaged scores; they are left out", step, self.directory)
                self._set_aside(f"{step}/metrics")

    def _set_aside(self, *parts: int | str) -> None:
        aside = self.directory.with_name("damaged_checkpoints")
        aside.mkdir(exist_ok=True)
        for part in parts:
            shutil.move(self.directory / str(part), aside / f"{str(part).replace('/', '-')}-{time.time_ns()}")

    def _cannot_write(self, e: Exception) -> RunFailed:
        kept = self.steps()
        rest = f"; checkpoint {kept[-1]} is intact" if kept else ""
        return RunFailed(f"cannot write a checkpoint in {self.directory}: {_reason(e)}{rest}; run the same command to go on")


def digest(state: TrainState) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of all leaves, in order."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def _selection(scores: dict[str, Any]) -> float:
    return float(scores.get(SELECTION_METRIC, -math.inf))


def _reason(e: Exception) -> str:
    """What went wrong, in a line: of TensorStore's chain of causes, each behind a quoted path, the last."""
    line = next(iter(str(e).strip().splitlines()), "")
    return ": ".join(filter(None, (type(e).__name__, line.rsplit('": ', 1)[-1][:200])))
