"""Scores a run on a split: python launch/evaluate.py --run=runs/wide --split=test."""

import json
from pathlib import Path

from absl import flags

from cifar_flax import cli
from cifar_flax.atomic import write_text

_RUN = flags.DEFINE_string("run", None, "run directory", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "images to evaluate on")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")


def main() -> None:
    """Evaluates, prints the scores and writes them to RUN/report/SPLIT.json."""
    from cifar_flax.run import Run  # after the flags are checked: a typo should not wait for JAX

    run = Run.open(_RUN.value)
    step = run.step(_CHECKPOINT.value)
    scores = run.evaluate(_SPLIT.value, step)
    report = Path(_RUN.value) / "report" / f"{_SPLIT.value}.json"
    report.parent.mkdir(exist_ok=True)
    write_text(report, json.dumps({**scores, "split": _SPLIT.value, "checkpoint": step}, indent=2) + "\n")
    guesses = "  ".join(f"top-{k} {scores[f'top{k}']:.2%}" for k in (1, 2, 3, 5))
    print(f"{_SPLIT.value}: {guesses}  loss {scores['loss']:.4f}  ({scores['n']:,} images, checkpoint {step}) -> {report}")


if __name__ == "__main__":
    cli.run(main)
