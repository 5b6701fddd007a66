"""Wall time in which a recipe reaches an accuracy: trains it with several seeds and prints each, their mean and sd.

    python benchmarks/time_to_accuracy.py --config=configs/fast.py --target=.65 --seeds=5 [--json]

Run directories are `runs/time_to_accuracy/NAME-seedN`: after an interruption the same command goes on, and a run that has
ended is only read. The accuracy is validation top-1, at the end of the first epoch that reaches the target. A recipe that
trains on all images (validation_fraction=0) is scored once a seed, on the test split, after its last epoch.

The time is that of the run's own clock (`elapsed` less `compilation` of metrics.jsonl): everything from the first step on, with
augmentation, validation and checkpoints, less the time in which it waited for the programs of its steps to be compiled.
"""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start(large_pages=True)  # before what takes long to import

import copy
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from cifar_flax.config import Config
from cifar_flax.config.flags import define_config_flag, experiment_from_flags
from cifar_flax.files.atomic import write_text
from cifar_flax.runtime import app

define_config_flag()
_TARGET = flags.DEFINE_float("target", None, "top-1 to reach, such as .65", lower_bound=0.0, upper_bound=1.0, required=True)
_SEEDS = flags.DEFINE_integer("seeds", 1, "how many, counted from config.seed", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "print one JSON object after the progress, in place of the summary")
FOLDER = Path("runs") / "time_to_accuracy"


def main() -> None:
    """Trains what is not trained yet and prints the times."""
    experiment = experiment_from_flags()
    lines = []
    for seed in range(experiment.config.seed, experiment.config.seed + _SEEDS.value):
        config = copy.deepcopy(experiment.config)
        config.seed = seed
        lines.append({"seed": seed, **time_of(config, FOLDER / f"{experiment.name}-seed{seed}", _TARGET.value)})
    if _JSON.value:
        print(json.dumps({"config": experiment.name, "target": _TARGET.value, "seeds": lines, **spread(lines)}))
        return
    for line in lines:
        print(f"seed {line['seed']}: {_describe(line)}")
    print(_summary(lines))


def time_of(config: Config, workdir: Path, target: float) -> dict[str, Any]:
    """Trains `config` in `workdir` to its end; returns the figures of when it reached `target`, or {"reached": False}."""
    from benchmarks.reaching import reached
    from cifar_flax.training.loop import train
    from cifar_flax.training.records import read_epochs

    train(config, workdir)
    epochs = read_epochs(workdir)
    actual = reached(target, epochs, lambda: _test_top1(workdir))
    if actual is None:
        return {"reached": False}
    times = {"seconds": actual.seconds, "seconds_with_compilation": actual.elapsed}
    return {"reached": True, **times, "epoch": actual.epoch, "top1": actual.top1}


def spread(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Number, mean and standard deviation (n - 1) of the seconds of those that reached the target."""
    seconds = [line["seconds"] for line in lines if line["reached"]]
    mean = statistics.mean(seconds) if seconds else None
    return {"n": len(seconds), "mean": mean, "sd": statistics.stdev(seconds) if len(seconds) > 1 else None}


def _test_top1(workdir: Path) -> float:
    """Of the last checkpoint; kept in the run directory, so that test is evaluated once however often this is asked."""
    from cifar_flax.run import Run

    path = workdir / "time_to_accuracy.json"
    if not path.exists():
        write_text(path, json.dumps({"test_top1": Run.open(workdir).evaluate("test", "latest")["top1"]}) + "\n")
    return float(json.loads(path.read_text(encoding="utf-8"))["test_top1"])


def _describe(line: dict[str, Any]) -> str:
    if not line["reached"]:
        return f"{_TARGET.value:.1%} not reached"
    minutes, compiling = line["seconds"] / 60, (line["seconds_with_compilation"] - line["seconds"]) / 60
    return f"{line['top1']:.2%} after epoch {line['epoch']}, {minutes:.2f} min, besides {compiling:.2f} min of compilation"


def _summary(lines: Sequence[dict[str, Any]]) -> str:
    actual = spread(lines)
    if not actual["n"]:
        return f"no seed reached {_TARGET.value:.1%}"
    sd = f", sd {actual['sd'] / 60:.2f}" if actual["sd"] is not None else ""
    return (
        f"{_TARGET.value:.1%} in {actual['mean'] / 60:.2f} min on average{sd}; {actual['n']} of {len(lines)} seeds reached it"
    )


if __name__ == "__main__":
    app.run(main)
