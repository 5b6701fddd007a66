"""Checkpoints of a run: asynchronous and atomic through Orbax, verified by checksums, restored on any number of devices."""

import errno
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from cifar_flax.config import CheckpointConfig
from cifar_flax.errors import RAISE_OPEN_FILES, RERUN_HINT, RunFailed, UserError
from cifar_flax.files.checksum import verify_checksum, with_checksum
from cifar_flax.models import Variables
from cifar_flax.runtime.multihost import is_main_process, run_on_main_process
from cifar_flax.training.checkpoints import files
from cifar_flax.training.checkpoints.info import InfoRestore, InfoSave, digest, this_process_alone, verify_written
from cifar_flax.training.checkpoints.items import items_of, state_of
from cifar_flax.training.checkpoints.path import checkpoint_folder
from cifar_flax.training.checkpoints.write_queue import WriteQueue
from cifar_flax.training.progress import Progress
from cifar_flax.training.state import TrainState

SELECTION_METRIC = "top1"  # on the validation split; the highest is the best checkpoint
NOTHING = (-1, -1)  # saved yet: step and epochs done

_begin_alone = threading.Lock()  # Orbax numbers saves by a global that the threads of another save's beginning would read


class Restored(NamedTuple):
    """A state from disk, and the progress that it was saved with."""

    state: TrainState
    progress: Progress


class Checkpoints:
    """The checkpoints under `workdir/checkpoints`: the latest few and the best by validation accuracy.

    A checkpoint has the items `model` (params, batch_stats, ema: all that evaluation reads), `training` (the rest of the state)
    and `info` (JSON: the progress, and the SHA-256 of the two).
    """

    def __init__(self, workdir: Path, config: CheckpointConfig, read_only: bool = False, name: str = "run") -> None:
        """Opens them, and makes their folder unless they are only read; `name` tells them from those of other seeds."""
        self.directory = Path(checkpoint_folder(workdir))
        self._workdir, self._read_only = self.directory.parent, read_only
        policies = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(config.keep_latest),
                checkpoint_managers.BestN(get_metric_fn=_selection, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        # Several seeds are saved at the same time, and those of several hosts' processes wait for each other by name.
        shared = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name)
        self._options = ocp.CheckpointManagerOptions(
            best_fn=_selection,
            preservation_policy=policies,
            read_only=read_only,
            save_interval_steps=0 if read_only else 1,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=not read_only,
            multiprocessing_options=this_process_alone() if read_only else shared,
            async_options=None if read_only else ocp.AsyncOptions(post_finalization_callback=self._verify_first),
        )
        self._unverified: tuple[int, dict[str, Any]] | None = None  # the first step that is saved, with its items on the host
        self._manager = self._open()
        self._queue = WriteQueue(config.keep_latest)
        self._saved, self._wrote_none = NOTHING, True

    def save(self, step: int, state: TrainState, progress: Progress, scores: Mapping[str, float] | None = None) -> None:
        """Copies `state` on its devices and returns; a thread fetches and writes the copy, and reads the first one back.

        Where states come faster than they are written, those that the next ones would displace are left out.

        Args:
          step: updates made.
          state: what to save; a checkpoint of the same step and fewer epochs is replaced.
          progress: beside it.
          scores: on the validation split, where there are any.

        Raises:
          RunFailed: this or an earlier checkpoint cannot be written; older ones stay.
        """
        if self._saved == (step, progress.epochs_done):
            return
        self._saved = step, progress.epochs_done
        self._queue.make_room(sum(x.nbytes for x in jax.tree.leaves(state)))
        rest = progress, dict(scores or {})
        if jax.process_count() > 1:  # where processes wait for each other, in the order of their own programs
            items = items_of(state)
            self._write(step, items, _copied_to_host(items) if is_main_process() else {}, *rest)
        else:
            copy = jax.device_put(items_of(state), may_alias=False)  # the next step overwrites the state itself
            self._queue.submit(lambda: self._write(step, copy, jax.device_get(copy), *rest), _selection(scores or {}))

    def wait(self) -> None:
        """Returns once all that was saved is on disk; raises as `save` does."""
        self._queue.wait()
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError, RuntimeError) as e:
            raise self._cannot_write(e) from e

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Waits for the write that is under way and releases the threads; an earlier error is not replaced by another."""
        try:
            self.wait()
        except RunFailed:
            if error is None:
                raise
        finally:
            self._queue.close()
            self._manager.close()

    def steps(self) -> list[int]:
        """The steps on disk, rising."""
        return sorted(self._manager.all_steps())

    def find(self, which: str | int) -> int:
        """The step that "latest", "best" or a number stands for; "best" is the latest where there are no scores.

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
        if str(which) in map(str, steps):  # not by `int`, which takes ٣ for 3
            return int(which)
        raise UserError(f"no checkpoint {which!r}; expected best, latest or one of the steps {steps}")

    def scores(self, step: int) -> dict[str, float]:
        """The scores on the validation split that a checkpoint was saved with; {} without a split."""
        return verify_checksum(saved) if (saved := self._manager.metrics(step)) else {}

    def restore(self, step: int, like: TrainState) -> Restored:
        """Reads one checkpoint into the shapes and shardings of `like`.

        Raises:
          UserError: it is damaged.
        """
        items, info = self._read(step, items_of(like))
        try:
            progress = Progress.from_json(info["progress"])
        except (KeyError, TypeError) as e:
            raise UserError(f"checkpoint {step} in {self.directory} is of another version of cifar_flax ({e})") from None
        return Restored(state_of(items, like), progress)

    def restore_variables(self, step: int, like: Variables, has_ema: bool) -> tuple[Variables, Variables]:
        """Reads the weights of one checkpoint; nothing of the optimizer is read, nor has to be built for it.

        Args:
          step: of the checkpoint.
          like: {"params", "batch_stats"} with shapes, dtypes and shardings.
          has_ema: whether the run keeps an average of its weights.

        Returns:
          The weights to evaluate with, averaged ones where there are any, and those that the optimizer updates.

        Raises:
          UserError: it is damaged.
        """
        model = {"params": like["params"], "batch_stats": like["batch_stats"], "ema": dict(like) if has_ema else None}
        items, _ = self._read(step, {"model": model})
        restored = items["model"]
        raw: Variables = {name: restored[name] for name in ("params", "batch_stats")}
        return (restored["ema"] if has_ema else raw), raw

    def resume_after(self, step: int, progress: Progress) -> None:
        """Goes on from the checkpoint `step`: does not save it again, and deletes later ones, which the run makes again."""
        self._saved, self._wrote_none = (step, progress.epochs_done), False
        for later in [later for later in self.steps() if later > step]:
            self._manager.delete(later)

    def quarantine(self, *steps: int) -> None:
        """Moves checkpoints to `damaged_checkpoints` in the run directory."""
        run_on_main_process(lambda: files.quarantine(self._workdir, *steps))
        self._manager.close()
        self._manager = self._open()

    def _read(self, step: int, like: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The items named in `like`, compared with their checksums, and what `info` holds."""
        args = {name: ocp.args.StandardRestore(item) for name, item in like.items()}
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(info=InfoRestore(), **args))
            info = restored["info"]
            intact = all(digest(restored[name]) == info["sha256"][name] for name in like)
        except Exception as e:  # a damaged file surfaces as whatever the layer that read it raises
            if "tree structures do not match" in str(e):
                raise UserError(f"checkpoint {step} in {self.directory} is of another version of cifar_flax") from e
            raise UserError(f"checkpoint {step} in {self.directory} is damaged ({_reason(e)})") from e
        if not intact:
            raise UserError(f"checkpoint {step} in {self.directory} is damaged (its checksum differs)")
        return {name: restored[name] for name in like}, info

    def _write(
        self, step: int, items: dict[str, Any], on_host: dict[str, Any], progress: Progress, scores: dict[str, float]
    ) -> None:
        """Starts writing, after the write before has ended; Orbax' threads compute the checksums, of what is on the host."""
        try:
            if replaces := step in self._manager.all_steps():
                self._manager.wait_until_finished()
                run_on_main_process(lambda: files.set_aside(self._workdir, step))
                self._manager.reload()
            if self._wrote_none and is_main_process():
                self._unverified = step, on_host
            args = ocp.args.Composite(
                info=InfoSave(progress.to_json(), on_host),
                **{name: ocp.args.StandardSave(item) for name, item in items.items()},
            )
            with _begin_alone:
                self._manager.save(step, args=args, metrics=with_checksum(scores) if scores else {})
            if replaces:
                self._manager.wait_until_finished()
                run_on_main_process(lambda: files.settle_replaced(self._workdir))
        except (OSError, ValueError, RuntimeError) as e:
            raise self._cannot_write(e) from e
        self._wrote_none = False

    def _open(self) -> ocp.CheckpointManager:
        """Opens the manager, which reads metadata and scores of all steps at once, after moving aside those that it cannot."""
        if self._read_only:
            files.check_files(self._workdir, read_only=True)
            files.check_scores(self._workdir, read_only=True)
        else:
            run_on_main_process(lambda: files.settle_replaced(self._workdir))
            run_on_main_process(lambda: files.check_files(self._workdir, read_only=False))
            run_on_main_process(lambda: files.check_scores(self._workdir, read_only=False))
        verbosity = logging.get_verbosity()
        if self._read_only:  # of which Orbax would warn
            logging.set_verbosity(logging.ERROR)
        try:
            return ocp.CheckpointManager(checkpoint_folder(self._workdir), options=self._options)
        finally:
            logging.set_verbosity(verbosity)

    def _verify_first(self) -> None:
        """Called in the background with each checkpoint that is complete, before it gets its name; an error discards it."""
        if self._unverified is not None:
            (step, items), self._unverified = self._unverified, None
            folder = next((path for path in self.directory.iterdir() if path.name.startswith(f"{step}.")), None)
            if folder is None:
                raise ValueError(f"the files of step {step} are gone")
            verify_written(folder, items)

    def _cannot_write(self, e: Exception) -> RunFailed:
        kept = self.steps()
        rest = f"; checkpoint {kept[-1]} is intact" if kept else ""
        remedy = f"{RAISE_OPEN_FILES} and " if os.strerror(errno.EMFILE) in str(e) else ""  # which TensorStore quotes
        return RunFailed(f"cannot write a checkpoint in {self.directory}: {_reason(e)}{rest}; {remedy}{RERUN_HINT}")


def _copied_to_host(items: Any) -> Any:
    """A copy: on a CPU `device_get` gives views of buffers that the next step overwrites."""
    return jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(items))


def _selection(scores: Mapping[str, Any]) -> float:
    return float(scores.get(SELECTION_METRIC, -math.inf))


def _reason(e: Exception) -> str:
    """The error in a line: of TensorStore's chain of causes, each behind a quoted path, the last."""
    line = next(iter(str(e).strip().splitlines()), "")
    return ": ".join(filter(None, (type(e).__name__, line.rsplit('": ', 1)[-1][:200])))
