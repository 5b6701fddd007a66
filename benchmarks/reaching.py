"""When a run reached an accuracy, on its own clock, and how much of that time went into compiling its programs."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from cifar_flax.training.loop import AfterEpoch, Scores

PROGRAMS = ("train_step", "eval_step", "jit(train_step)", "jit(eval_step)")  # the names that JAX reports them under
COMPILING = "/jax/core/compile/"  # of its events: tracing, lowering to MLIR, and XLA
FILE = "compilation.jsonl"


@dataclass(frozen=True)
class Reached:
    """The end of the first epoch at which an accuracy is reached.

    Attributes:
      epoch: counted from 1.
      top1: in [0, 1].
      elapsed: seconds of training until then, of all processes of the run, with validation, checkpoints and compilation.
      compilation: of those, seconds in which its programs were compiled.
    """

    epoch: int
    top1: float
    elapsed: float
    compilation: float

    @property
    def seconds(self) -> float:
        """Without compilation."""
        return self.elapsed - self.compilation


@contextmanager
def compilation_recorded(workdir: Path) -> Iterator[AfterEpoch]:
    """Gives the `after_epoch` that adds to the run's compilation.jsonl how long its programs were compiled in each epoch.

    JAX tells how long it traced, lowered and compiled each program. The training and evaluation steps compile while the run's
    clock runs; what compiles before it starts has other names. Up to two steps run on while a further program compiles, one a
    resolution, so that their time is left out as well.
    """
    seconds = 0.0

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        nonlocal seconds
        if event.startswith(COMPILING) and details.get("fun_name") in PROGRAMS:
            seconds += duration_secs

    def after_epoch(epoch: int, scores: Scores) -> None:
        nonlocal seconds
        with (workdir / FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch, "seconds": seconds}) + "\n")
        seconds = 0.0

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield after_epoch
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def read_compilation(workdir: Path) -> dict[int, float]:
    """Epoch -> seconds; of an epoch that a run went through again after a kill, those of the last time."""
    path = workdir / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line["epoch"]: line["seconds"] for line in map(json.loads, lines)}


def reached(
    target: float,
    epochs: Sequence[Mapping[str, Any]],
    compilation: Mapping[int, float],
    final_top1: Callable[[], float],
) -> Reached | None:
    """The first epoch whose validation top-1 is at least `target`; None where there is none.

    Args:
      target: in [0, 1].
      epochs: the records of metrics.jsonl of kind "epoch".
      compilation: from `read_compilation`.
      final_top1: asked once, where nothing was validated: the top-1 after the last epoch.
    """
    if not any("validation_top1" in record for record in epochs):
        epochs = [{**epochs[-1], "validation_top1": final_top1()}]
    for record in epochs:
        if (record["validation_top1"] or 0.0) >= target:
            compiled = sum(seconds for epoch, seconds in compilation.items() if epoch <= record["epoch"])
            return Reached(record["epoch"], record["validation_top1"], record["elapsed"], compiled)
    return None
