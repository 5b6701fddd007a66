"""What is seen and kept of a run while it trains: progress, metrics.jsonl, TensorBoard, and the watch for NaN."""

import math
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import optax

from cifar_flax.config import Config
from cifar_flax.errors import Diverged
from cifar_flax.runtime.multihost import is_main_process
from cifar_flax.training.first_layer import first_layer_picture
from cifar_flax.training.progress import Progress, clock
from cifar_flax.training.records import Records, read_records
from cifar_flax.training.tensorboard import TensorBoard
from cifar_flax.training.timing import Clock

IN_FLIGHT = 2  # steps the host may run ahead of the device: enough to keep it busy, few enough to stop and to time by
SLOW_SECONDS = 0.5  # of a step so long that waiting for it costs nothing: none is ahead, or SIGTERM would wait for two


class Tracker:
    """Follows one process' share of a run, from `first_step` on; of several hosts' processes the first writes and prints."""

    def __init__(
        self,
        workdir: Path,
        config: Config,
        schedule: optax.Schedule,
        steps_per_epoch: int,
        first_step: int,
        epochs_done: int,
        silent: bool = False,
    ) -> None:
        """Opens the records; prints nothing where `silent`."""
        self._config, self._schedule, self._steps_per_epoch = config, schedule, steps_per_epoch
        self._workdir, self._first_step = workdir, first_step
        self._scale = 1.0
        self._total_steps = config.train.epochs * steps_per_epoch
        self._records = Records(workdir, first_step, epochs_done) if is_main_process() else None
        self._tensorboard = TensorBoard(workdir, first_step) if config.log.tensorboard and is_main_process() else None
        self._progress = Progress(silent or not is_main_process())
        self._in_flight: list[tuple[int, dict[str, jax.Array]]] = []
        self._clock = Clock(self._records.last if self._records else {})
        self._epoch_start = self._clock.elapsed

    @property
    def steps_per_second(self) -> float:
        """Of late; 0 before the second step has ended."""
        return self._clock.steps_per_second

    def say(self, text: str) -> None:
        """Prints a text to stay."""
        self._progress.say(text)

    def start(self, training_images: int, validation_images: int, devices: int) -> None:
        """Says what is about to happen."""
        backend = f"{devices} x {jax.devices()[0].device_kind}" if devices > 1 else jax.devices()[0].device_kind
        going_on = f", going on from step {self._first_step}" if self._first_step else ""
        self.say(
            f"{training_images:,} training and {validation_images:,} validation images, on {backend}; {self._workdir}{going_on}"
        )

    def scale_learning_rate(self, scale: float) -> None:
        """Takes note of what the scheduled learning rate is multiplied with from now on, and says so where that is new."""
        if scale != self._scale:
            self.say(f"the learning rate is {scale:.3g} times its schedule")
        self._scale = scale

    def finish(self, step: int, stopped_early: bool) -> None:
        """Says how it went, after update number `step`."""
        epochs_done, planned, stopping = step // self._steps_per_epoch, self._config.train.epochs, self._config.early_stopping
        if step == self._first_step:
            self.say("nothing is left to train")
        if stopped_early and epochs_done < planned:
            self.say(
                f"stopped early, after epoch {epochs_done} of {planned}: validation {stopping.monitor} has not improved "
                f"for {stopping.patience} epochs (config.early_stopping)"
            )
        epochs = [record for record in read_records(self._workdir) if record["kind"] == "epoch"]
        times = self._clock.times
        text = f"trained {epochs_done} epochs in {clock(times['elapsed'])}, {clock(times['compilation'])} of it compiling"
        if validated := [record for record in epochs if record.get("validation_top1") is not None]:
            best = max(validated, key=lambda record: (record["validation_top1"], record["step"]))  # as Checkpoints has it
            text += f"; best validation top-1 {best['validation_top1']:.2%} after epoch {best['epoch']}"
        self.say(text)

    def step(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes note that update number `step` was dispatched; looks at the metrics of one that has ended.

        Raises:
          Diverged: its loss or gradient is not finite.
        """
        self._in_flight.append((step, metrics))
        ahead = 0 if 0 < self.steps_per_second < 1 / SLOW_SECONDS else IN_FLIGHT
        while len(self._in_flight) > ahead:
            self._look(*self._in_flight.pop(0))

    def flush(self) -> None:
        """Looks at all steps still in flight, so that no state with a NaN in it is saved; raises as `step` does."""
        while self._in_flight:
            self._look(*self._in_flight.pop(0), must=not self._in_flight[1:])

    def epoch(self, epoch: int, step: int, train: dict[str, float], validation: dict[str, float]) -> None:
        """Records an epoch, counted from 1: means over its training images, as they were trained on, and validation scores."""
        self._clock.pause()
        values = {f"train_{name}": value for name, value in train.items()}
        values |= {f"validation_{name}": value for name, value in validation.items() if name != "n"}
        times = self._clock.times
        seconds, self._epoch_start = times["elapsed"] - self._epoch_start, times["elapsed"]
        if self._records:
            self._records.append({"kind": "epoch", "step": step, "epoch": epoch, **values, "seconds": seconds, **times})
        if self._tensorboard:
            curves = {
                f"{'validation' if k.startswith('validation') else 'train'}/{k.partition('_')[2]}": v for k, v in values.items()
            }
            self._tensorboard.scalars(step, curves)
        text = f"epoch {epoch}/{self._config.train.epochs}  train {_summary(train)}"
        if validation:
            text += f"  validation {_summary(validation)}"
        self.say(f"{text}  {clock(seconds)}")

    def first_layer(self, step: int, params: Any, image_shape: tuple[int, int, int]) -> None:
        """Shows TensorBoard the weights that see the image, after update number `step`."""
        if self._tensorboard and self._config.log.pictures:
            picture = first_layer_picture(params, image_shape)
            if picture is not None:
                self._tensorboard.picture(step, "first layer", picture)

    def _look(self, step: int, metrics: dict[str, jax.Array], must: bool = False) -> None:
        jax.block_until_ready(metrics)
        self._clock.tick(step)
        record = step % self._config.log.every_steps == 0
        if not (record or must or self._progress.due()):
            return
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        epoch = (step - 1) // self._steps_per_epoch + 1
        speed = self._clock.steps_per_second * self._config.train.batch_size
        if record:
            self._record(step, epoch, values, speed)
        if not all(math.isfinite(values[name]) for name in ("loss", "grad_norm")):
            name = "gradient" if math.isfinite(values["loss"]) else "loss"
            raise Diverged(
                f"the {name} is not finite at step {step} (epoch {epoch}); try a lower config.optim.learning_rate. "
                "What was saved before is intact."
            )
        if self._progress.due():
            remaining = (self._total_steps - step) / self._clock.steps_per_second if self._clock.steps_per_second else 0
            self._progress.show(
                f"epoch {epoch}/{self._config.train.epochs}  step {step}/{self._total_steps}  loss {values['loss']:.4f}  "
                f"top-1 {values['top1']:.1%}  {speed:,.0f} images/s  ETA {clock(remaining)}"
            )

    def _record(self, step: int, epoch: int, values: dict[str, float], speed: float) -> None:
        rate = float(self._schedule(step - 1)) * self._scale
        line: dict[str, Any] = {"kind": "step", "step": step, "epoch": epoch, **values, "learning_rate": rate}
        if self._records:
            self._records.append({**line, "images_per_second": speed, **self._clock.times})
        if self._tensorboard:
            curves = {f"step/{name}": value for name, value in {**values, "learning_rate": rate}.items()}
            self._tensorboard.scalars(step, {**curves, "step/images_per_second": speed})

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.clear()
        self._clock.close()
        if self._records:
            self._records.close()
        if self._tensorboard:
            self._tensorboard.close()


def _summary(scores: dict[str, float]) -> str:
    return f"loss {scores['loss']:.4f} top-1 {scores['top1']:.2%} F1 {scores['f1']:.2%}"
