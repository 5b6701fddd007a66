"""The run directories that one training fills: one, or one a vmapped seed, each the same as if its seed were trained alone."""

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from absl import logging

from cifar_flax.config import Config
from cifar_flax.errors import Diverged, Preempted
from cifar_flax.evaluation.metrics import means
from cifar_flax.runtime.devices import put_global
from cifar_flax.runtime.multihost import check_shared, run_on_main_process
from cifar_flax.runtime.preemption import Interrupt
from cifar_flax.training.checkpoints.manager import Checkpoints
from cifar_flax.training.checkpoints.resume import restore_latest
from cifar_flax.training.chunks import Chunk
from cifar_flax.training.console import Console
from cifar_flax.training.divergence import check_weights
from cifar_flax.training.metric_logger import MetricLogger
from cifar_flax.training.progress import Progress
from cifar_flax.training.run_dir import open_run_dir
from cifar_flax.training.state import TrainState
from cifar_flax.training.timing import StepTimer
from cifar_flax.training.trainer import Scores, Trainer

TRACKER_SECONDS = 3.0  # that all trackers together have to send the rest, once everything is saved after SIGTERM
SLOW_SECONDS = 0.5  # of a dispatch; waiting for one costs nothing then, and SIGTERM need not wait for two


@dataclass
class _Run:
    config: Config
    workdir: Path
    checkpoints: Checkpoints
    progress: Progress
    logger: MetricLogger | None = None
    diverged: str = ""  # why; "" where it has not

    @property
    def training(self) -> bool:
        """Whether it still trains: a run that was stopped early or has diverged waits until the other seeds have ended."""
        return not (self.diverged or self.progress.done(self.config))


class Runs:
    """Checkpoints, records and progress of the runs of a trainer, in the order of its seeds."""

    def __init__(self, trainer: Trainer, workdirs: Sequence[Path]) -> None:
        """Makes and locks the run directories.

        Raises:
          UserError: another process trains in one, or it holds a run of another config or other data.
        """
        self._trainer, self._stack = trainer, contextlib.ExitStack()
        self._in_flight: deque[tuple[Chunk, jax.Array]] = deque()
        self._runs: list[_Run] = []
        self._saved_at = time.monotonic()
        with contextlib.ExitStack() as stack:
            for seed, workdir in zip(trainer.seeds, workdirs, strict=True):
                config = replace(trainer.config, seed=seed)
                of_run = workdir, config, trainer.preprocessing, trainer.plan.total_steps
                stack.enter_context(run_on_main_process(partial(open_run_dir, *of_run)) or contextlib.nullcontext())
                check_shared(workdir / "environment.json")
                run_on_main_process(partial(_record_teacher, workdir, trainer))
                checkpoints = stack.enter_context(Checkpoints(workdir, config.checkpoint, name=f"seed{seed}"))
                self._runs.append(_Run(config, workdir, checkpoints, Progress.start(config)))
            self._stack = stack.pop_all()

    def restore(self, initial: list[TrainState] | None, layers: bool = False) -> tuple[TrainState, int]:
        """The state to train from, and the updates made: the latest that all runs have, or `initial`, built if it is None.

        The console then says what is about to be trained: a line on the network, or the table of its layers.

        Raises:
          UserError: no checkpoint is intact, metrics.jsonl is damaged, or a writer cannot start; or as `Trainer.initialize`.
        """
        restored = restore_latest([run.checkpoints for run in self._runs], self._trainer.abstract_state)
        for run, checkpoint in zip(self._runs, restored, strict=False):  # none where they begin
            run.progress = checkpoint.progress
        states = [checkpoint.state for checkpoint in restored] or initial or self._trainer.initialize()
        step = int(states[0].step)
        for run in self._runs:
            logger = MetricLogger(
                run.workdir, run.config, self._trainer.schedule, self._trainer.steps_per_epoch, step, run.progress.epochs_done
            )
            self._stack.callback(logger.close)
            run.logger = logger
        shown = self._shown = next((run for run in self._runs if run.training), self._runs[0])
        self.timer = StepTimer(shown.logger.last if shown.logger else {}, lambda: self._trainer.compilation_seconds)
        self._epoch_start = self.timer.elapsed
        self._console = Console(shown.config, shown.workdir, self._trainer.steps_per_epoch, step)
        self._stack.callback(self._console.close)
        trainer = self._trainer
        network = trainer.layers() if layers else trainer.network_line()
        self._console.start(network, len(self._runs), len(trainer.train_set), len(trainer.validation_set or ()))
        self._console.learning_rate_scale(shown.progress.learning_rate_scale)
        return trainer.layout.stack(states), step

    def saved_at(self, step: int) -> str:
        """A line on what was saved: "saved at step 90 in /runs/wide", or "saved 5 seeds at step 90 in /runs/wide"."""
        folder, count = self._runs[0].workdir.absolute(), sum(self.training)
        if len(self._runs) == 1:
            return f"saved at step {step} in {folder}"
        return f"saved {count} seed{'s' if count > 1 else ''} at step {step} in {folder.parent}"

    @property
    def training(self) -> list[bool]:
        """Which runs still train, in the order of the seeds."""
        return [run.training for run in self._runs]

    @property
    def done(self) -> bool:
        """Whether nothing is left to train in any run."""
        return not any(run.training for run in self._runs)

    @property
    def epochs_done(self) -> int:
        """Epochs that are validated and recorded of all runs that still train, or, where none does, of any."""
        counts = [run.progress.epochs_done for run in self._runs if run.training]
        return min(counts) if counts else max(run.progress.epochs_done for run in self._runs)

    def chunks(self, step: int) -> Iterator[tuple[Chunk, Any]]:
        """Yields what is left of an epoch after update number `step`, as `Trainer.chunks`, and starts the clock."""
        chunks = self._trainer.chunks(self.epochs_done, step)
        self.timer.start(step)
        return chunks

    def log_steps(self, chunk: Chunk, metrics: jax.Array) -> None:
        """Queues the metrics of a chunk that was dispatched; fetches and records the chunk before, in one transfer.

        Raises:
          Diverged: its loss or gradient is not finite, in all runs that still trained.
        """
        self._in_flight.append((chunk, metrics))
        slow = 0 < self.timer.steps_per_second < chunk.length / SLOW_SECONDS
        while len(self._in_flight) > (0 if slow else 1):
            self._log_oldest()

    def flush(self) -> None:
        """Records all steps that were dispatched, so that no state with a NaN in it is saved; raises as `log_steps` does."""
        while self._in_flight:
            self._log_oldest()

    def save_due_by_time(self) -> bool:
        """Whether `checkpoint.every_minutes` have passed since the last save, by this process' clock."""
        return time.monotonic() - self._saved_at >= self._trainer.config.checkpoint.every_minutes * 60

    def save(self, step: int, state: TrainState) -> None:
        """Starts saving each run within an epoch; raises as `Checkpoints.save` and `log_steps`."""
        self.flush()
        for i, run in enumerate(self._runs):
            if run.training:
                with self._leaving_diverged(run):
                    single = self._trainer.layout.take_seed(state, i)
                    check_weights(single, (), f"step {step} of {run.workdir}")
                    self._save(run, step, single)
        self._end_if_diverged()
        self._follow_one_that_trains()

    def wait(self) -> None:
        """Returns once all checkpoints are on disk; raises as `Checkpoints.wait`."""
        for run in self._runs:
            run.checkpoints.wait()

    def end_epoch(self, step: int, state: TrainState, scores: Sequence[Mapping[str, Scores]]) -> TrainState:
        """Records and saves an epoch, and draws its consequences for the learning rate and the end of training.

        Args:
          step: updates made.
          state: of all runs.
          scores: of each run, from `Trainer.evaluate`.
        Returns:
          The state with the learning rate of the next epoch.
        Raises:
          Diverged: as `log_steps`; or the only run has weights that are not finite, of which loss and gradient of its last
            update do not tell yet.
        """
        self.flush()
        seconds, self._epoch_start = self.timer.elapsed - self._epoch_start, self.timer.elapsed
        # The others have stopped early, or had ended this epoch before a kill that came between their checkpoints and these.
        before = self.epochs_done
        ending = [run.training and run.progress.epochs_done == before for run in self._runs]
        for run, ends, validation in zip(self._runs, ending, scores, strict=True):
            if ends:
                run.progress = run.progress.end_epoch(run.config, validation.get("validation", {}))
        state = self._with_learning_rates(state)
        for i, run in enumerate(self._runs):
            if ending[i]:
                with self._leaving_diverged(run):
                    self._end_epoch_of(i, step, self._trainer.layout.take_seed(state, i), scores[i], seconds)
        self._follow_one_that_trains()
        return state

    def finish(self, step: int, interrupt: Interrupt) -> None:
        """Waits for the last checkpoint, which no request to stop cuts short, and says how training went.

        Raises:
          Diverged: some of the seeds have.
        """
        with interrupt.defer_stop():
            self.wait()
        progress = self._shown.progress
        self._console.finish(step, progress.epochs_done, progress.stopped_early, self.timer)
        self._raise_if_diverged()

    def __enter__(self) -> "Runs":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Preempted):
            deadline = time.monotonic() + TRACKER_SECONDS
            for run in self._runs:
                if run.logger is not None:
                    run.logger.set_close_deadline(deadline)
        self._stack.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _leaving_diverged(self, run: _Run) -> Iterator[None]:
        """Leaves a run where it diverges; others train on, in whose numbers it has no part."""
        try:
            yield
        except Diverged as e:
            run.diverged = str(e)
            if len(self._runs) == 1:
                raise
            logging.error("%s", e)

    def _end_if_diverged(self) -> None:
        """Raises where nothing is left to train, and a run has diverged; what others have saved is on disk then."""
        if self.done and any(run.diverged for run in self._runs):
            self.wait()
            self._raise_if_diverged()

    def _raise_if_diverged(self) -> None:
        if seeds := {run.workdir: run.diverged for run in self._runs if run.diverged}:
            error = Diverged(next(iter(seeds.values())))
            error.seeds = seeds
            raise error

    def _follow_one_that_trains(self) -> None:
        """Makes the console show another run, if the one that it shows trains no more."""
        last = self._shown
        others = [run for run in self._runs if run.training] or [
            run for run in self._runs if last.diverged and not run.diverged
        ]
        if not last.training and others:
            self._shown = others[0]
            why = "has diverged" if last.diverged else "has stopped early"
            self._console.follow(why, self._shown.config.seed, self._shown.workdir, self._shown.progress.learning_rate_scale)

    def _end_epoch_of(self, i: int, step: int, state: TrainState, scores: Mapping[str, Scores], seconds: float) -> None:
        run, rows = self._runs[i], {"train": means(state.metrics), **scores}
        assert run.logger is not None  # nosec B101 # for the type checker: `restore` has made it
        losses = [of_weights["loss"] for of_weights in scores.values()]
        check_weights(state, losses, f"step {step} of {run.workdir}")
        run.logger.epoch(run.progress.epochs_done, step, rows, seconds, self.timer)
        run.logger.first_layer(step, lambda: self._trainer.first_layer_kernels(state.params))
        if run is self._shown:
            self._console.epoch(run.progress.epochs_done, rows, seconds)
            self._console.learning_rate_scale(run.progress.learning_rate_scale)
        self._save(run, step, state, _selecting(scores))

    def _save(self, run: _Run, step: int, state: TrainState, *scores: Scores) -> None:
        """Starts saving a run, whose records until then are on the disk."""
        if run.logger is not None:
            run.logger.sync()
        self._saved_at = time.monotonic()
        run.checkpoints.save(step, state, run.progress, *scores)

    def _with_learning_rates(self, state: TrainState) -> TrainState:
        """The state with what plateaus multiply each run's learning rate with."""
        if state.learning_rate_scale is None:
            return state
        scales = np.array([run.progress.learning_rate_scale for run in self._runs], np.float32)
        scale = put_global(scales if len(scales) > 1 else scales[0], self._trainer.layout.state)
        return state.replace(learning_rate_scale=scale)  # type: ignore[attr-defined]  # of flax.struct.dataclass

    def _log_oldest(self) -> None:
        chunk, metrics = self._in_flight.popleft()
        values = np.asarray(metrics).reshape(chunk.length, len(self._runs), -1)  # one transfer; waits for the chunk
        self.timer.tick(chunk.end)
        for i, run in enumerate(self._runs):
            if run.training and run.logger is not None:
                with self._leaving_diverged(run):
                    run.logger.steps(chunk.first, values[:, i], run.progress.learning_rate_scale, self.timer)
        self._end_if_diverged()
        self._follow_one_that_trains()
        self._console.step(chunk.end, values[-1, self._runs.index(self._shown)].tolist(), self.timer)


def _record_teacher(workdir: Path, trainer: Trainer) -> None:
    if trainer.teacher is not None:
        from cifar_flax.training.distillation import record_teacher

        record_teacher(workdir, trainer.teacher)


def _selecting(scores: Mapping[str, Scores]) -> Scores:
    """Scores that select a checkpoint, with the temperature of the weights of the last update beside that of the average."""
    if "validation" not in scores:
        return {}
    validation = scores["validation"]
    return {**validation, "raw_temperature": scores.get("validation_raw", validation)["temperature"]}
