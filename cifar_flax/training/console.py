"""The lines that a training prints."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax

from cifar_flax.config import Config
from cifar_flax.runtime.multihost import is_main_process
from cifar_flax.runtime.progress import ProgressLine, format_duration
from cifar_flax.training.checkpoints.manager import SELECTION_METRIC
from cifar_flax.training.chunks import total_epochs, total_steps
from cifar_flax.training.records import validated_epochs
from cifar_flax.training.step import STEP_METRICS
from cifar_flax.training.timing import StepTimer


class Console:
    """Says how a training is going: of several seeds the first that trains, of several hosts' processes the first one's."""

    def __init__(self, config: Config, workdir: Path, steps_per_epoch: int, first_step: int) -> None:
        """Prints nothing yet; `first_step` is the number of updates made before this process."""
        self._config, self._workdir, self._first_step = config, workdir, first_step
        self._steps_per_epoch, self._total_steps = steps_per_epoch, total_steps(config, steps_per_epoch)
        self._line = ProgressLine(silent=not is_main_process())
        self._scale, self._best = 1.0, -1.0

    def start(self, network: str, seeds: int, training_images: int, validation_images: int) -> None:
        """Says what is about to happen; `network` is a line or a table on it."""
        if self._first_step:
            self._best = max(validated_epochs(self._workdir).values(), default=-1.0)
        devices = jax.devices()
        backend = f"{len(devices)} x {devices[0].device_kind}" if len(devices) > 1 else devices[0].device_kind
        resumed = f", resumed at step {self._first_step}" if self._first_step else ""
        images = f"{training_images:,} training and {validation_images:,} validation images"
        self._line.print(f"{network}\n{images}, on {backend}\n{self._workdir}{resumed}")
        if seeds > 1:
            self._line.print(f"{seeds} seeds in one program; the lines below are about seed {self._config.seed}")

    def follow(self, why: str, seed: int, workdir: Path, scale: float) -> None:
        """Shows another seed from here on.

        Args:
          why: what has become of this one: "has stopped early".
          seed: of the other.
          workdir: its run directory.
          scale: what its learning rate is multiplied by.
        """
        self._line.print(f"seed {self._config.seed} {why}; the lines below are about seed {seed}")
        self._config, self._workdir, self._scale = replace(self._config, seed=seed), workdir, scale
        self._best = max(validated_epochs(workdir).values(), default=-1.0)

    def learning_rate_scale(self, scale: float) -> None:
        """Says that the scheduled learning rate is multiplied by another factor from now on, where that is so."""
        if scale != self._scale:
            self._line.print(f"the learning rate is {scale:.3g} times its schedule")
        self._scale = scale

    def step(self, step: int, metrics: Sequence[float], timer: StepTimer) -> None:
        """Shows the latest step, where it is time for another line."""
        if not self._line.due():
            return
        values, speed = dict(zip(STEP_METRICS, metrics, strict=True)), timer.steps_per_second
        pace = ""
        if speed:  # from the second step on
            eta = format_duration((self._total_steps - step) / speed).removeprefix("0:")
            pace = f"  {speed * self._config.train.batch_size:,.0f} images/s  ETA {eta}"
        self._line.show(
            f"epoch {(step - 1) // self._steps_per_epoch + 1}/{self._config.train.epochs:g}  step {step}/{self._total_steps}  "
            f"loss {values['loss']:.2f}  top-1 {values['top1']:.1%}{pace}"
        )

    def epoch(self, epoch: int, scores: dict[str, dict[str, float]], seconds: float) -> None:
        """Prints the scores of an epoch, and "best" where its checkpoint is the best so far; raw weights are in the records."""
        train, validation = scores["train"], scores.get("validation")
        of_loss, of_top1 = (f" (val {validation['loss']:.2f})", f" (val {validation['top1']:.1%})") if validation else ("", "")
        text = f"loss {train['loss']:.2f}{of_loss}  top-1 {train['top1']:.1%}{of_top1}"
        top1 = (validation or {}).get(SELECTION_METRIC, -1.0)
        mark = "  best" if top1 >= max(self._best, 0.0) else ""  # the later of two as good, as Checkpoints.find
        self._best = max(self._best, top1)
        duration = format_duration(seconds).removeprefix("0:")
        self._line.print(f"epoch {epoch}/{self._config.train.epochs:g}  {text}  {duration}{mark}")

    def finish(self, step: int, epochs_done: int, stopped_early: bool, timer: StepTimer) -> None:
        """Says how training went, after update number `step`."""
        stopping, planned = self._config.early_stopping, self._config.train.epochs
        if step == self._first_step:
            self._line.print("nothing is left to train")
        if stopped_early and epochs_done < total_epochs(self._config):
            self._line.print(
                f"stopped early, after epoch {epochs_done} of {planned:g}: no better validation {stopping.monitor}\n"
                f"for {stopping.patience} epochs (config.early_stopping)"
            )
        times = timer.times
        compiling = format_duration(times["compilation"])
        text = (
            f"trained {min(epochs_done, planned):g} epochs in {format_duration(times['elapsed'])}, {compiling} of it compiling"
        )
        if validated := validated_epochs(self._workdir):
            best = max(validated, key=lambda epoch: (validated[epoch], epoch))  # as Checkpoints.find
            text += f"\nbest validation top-1 {validated[best]:.2%}, after epoch {best}"
        self._line.print(text)

    def close(self) -> None:
        """Removes the live line."""
        self._line.clear()
