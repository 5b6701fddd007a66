"""The time at which a run reached an accuracy, from its records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reached:
    """The end of the first epoch at which an accuracy is reached.

    Attributes:
      epoch: counted from 1.
      top1: in [0, 1].
      elapsed: seconds of training until then, over all sessions of the run, with validation, checkpoints and compilation.
      compilation: seconds of `elapsed` in which training waited for its programs to be compiled.
    """

    epoch: int
    top1: float
    elapsed: float
    compilation: float

    @property
    def seconds(self) -> float:
        """Seconds without compilation."""
        return self.elapsed - self.compilation


def reached(target: float, epochs: Sequence[Mapping[str, Any]], final_top1: Callable[[], float]) -> Reached | None:
    """Finds the first epoch whose validation top-1 is at least `target`; None where there is none.

    Args:
      target: in [0, 1].
      epochs: the records of metrics.jsonl of kind "epoch".
      final_top1: returns the top-1 after the last epoch; called once, where nothing was validated.
    """
    if not any("validation_top1" in record for record in epochs):
        epochs = [{**epochs[-1], "validation_top1": final_top1()}]
    for record in epochs:
        if (record["validation_top1"] or 0.0) >= target:
            return Reached(record["epoch"], record["validation_top1"], record["elapsed"], record["compilation"])
    return None
