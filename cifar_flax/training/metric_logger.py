"""Records and writers of one run, and its NaN check."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cifar_flax.config import Config
from cifar_flax.models.first_layer import kernel_grid
from cifar_flax.runtime.devices import host_device
from cifar_flax.runtime.multihost import run_on_main_process
from cifar_flax.training.divergence import check_step
from cifar_flax.training.records import Records, curves
from cifar_flax.training.step import STEP_METRICS
from cifar_flax.training.timing import StepTimer
from cifar_flax.training.writers import Session, open_writers
from cifar_flax.training.writers.sending import Sender


class MetricLogger:
    """Writes the metrics of one run from `step` on; of several hosts' processes the first one writes."""

    def __init__(
        self, workdir: Path, config: Config, schedule: optax.Schedule, steps_per_epoch: int, step: int, epochs_done: int
    ) -> None:
        """Opens records and writers, and drops from them what a resumed run writes again.

        Raises:
          UserError: metrics.jsonl is damaged, or a writer cannot start.
        """
        self._workdir, self._config, self._schedule, self._steps_per_epoch = workdir, config, schedule, steps_per_epoch
        session = Session(workdir, config, step, epochs_done * steps_per_epoch)
        with contextlib.ExitStack() as stack:
            self._records = run_on_main_process(lambda: Records(workdir, step, epochs_done))
            stack.callback(self._records.close if self._records else lambda: None)
            self._writers = run_on_main_process(lambda: open_writers(session)) or []
            stack.pop_all()

    @property
    def last(self) -> dict[str, Any]:
        """The last record of an earlier process; {} where there is none."""
        return self._records.last if self._records else {}

    def steps(self, first: int, metrics: np.ndarray, learning_rate_scale: float, timer: StepTimer) -> None:
        """Records the steps that `config.log.every_steps` asks for.

        Args:
          first: updates made before the first of them.
          metrics: float32 [steps, len(STEP_METRICS)], of `TrainStep`.
          learning_rate_scale: factor on top of the schedule.
          timer: of the training.
        Raises:
          Diverged: a loss or a gradient is not finite.
        """
        for step, row in enumerate(metrics.tolist(), first + 1):
            values = dict(zip(STEP_METRICS, row, strict=True))
            if step % self._config.log.every_steps == 0:
                self._step(step, values, learning_rate_scale, timer)
            check_step(values, f"step {step} (epoch {self._epoch_of(step)}) of {self._workdir}")

    def epoch(self, epoch: int, step: int, scores: dict[str, dict[str, float]], seconds: float, timer: StepTimer) -> None:
        """Records an epoch, counted from 1.

        Args:
          epoch: its number.
          step: updates made by its end.
          scores: of "train", means over its augmented images, and of validation, as in `Trainer.evaluate`.
          seconds: it took.
          timer: of the training.
        """
        values = {f"{split}_{name}": value for split, row in scores.items() for name, value in row.items()}
        self._append({"kind": "epoch", "step": step, "epoch": epoch, **values, "seconds": seconds, **timer.times})

    def first_layer(self, step: int, kernels: Callable[[], np.ndarray | None]) -> None:
        """Shows the weights that see the image, as `first_layer_kernels` gives them, after update number `step`."""
        if self._writers and self._config.log.pictures and (shown := kernels()) is not None:
            for writer in self._writers:
                writer.picture(step, "first layer", kernel_grid(shown))

    def sync(self) -> None:
        """Returns once what was recorded outlasts a power cut, as a checkpoint does."""
        if self._records:
            self._records.sync()

    def set_close_deadline(self, deadline: float) -> None:
        """Limits the wait of `close` for trackers to `deadline`, by the monotonic clock."""
        for writer in self._writers:
            if isinstance(writer, Sender):
                writer.set_close_deadline(deadline)

    def close(self) -> None:
        """Closes records and writers."""
        if self._records:
            self._records.close()
        for writer in self._writers:
            writer.close()

    def _epoch_of(self, step: int) -> int:
        return (step - 1) // self._steps_per_epoch + 1

    def _step(self, step: int, values: dict[str, float], learning_rate_scale: float, timer: StepTimer) -> None:
        with jax.default_device(host_device()):  # an accelerator would first end the steps before it
            rate = float(self._schedule(jnp.int32(step - 1))) * learning_rate_scale
        line = {"kind": "step", "step": step, "epoch": self._epoch_of(step), **values, "learning_rate": rate}
        speed = timer.steps_per_second * self._config.train.batch_size
        self._append({**line, "images_per_second": speed, **timer.times})

    def _append(self, record: dict[str, Any]) -> None:
        if self._records:
            self._records.append(record)
        for writer in self._writers:
            writer.scalars(record["step"], curves(record))
