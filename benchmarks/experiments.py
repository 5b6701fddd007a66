"""Trains the runs behind the figures of README and docs/experiments.md, one after another, and records a line per seed.

    python benchmarks/experiments.py --only=three_conv_20_epochs      # any of GROUPS; without --only, all of them
    python benchmarks/experiments.py --table                          # what has been measured, as Markdown

Run directories are `runs/experiments/NAME`; after an interruption the same command resumes. Figures are appended to
`benchmarks/results/experiments.jsonl` as each run ends; runs that are in it are not repeated, unless this machine computes in
another dtype. `seconds` is the time of training
with everything included, `compilation` its part spent on compiling. `peak_memory_gb` is the peak of the training process, or
of the last one of an interrupted run.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from cifar_flax.errors import RunFailed
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.runtime import app
from cifar_flax.runtime.devices import fastest_dtype
from cifar_flax.training.records import read_records

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "experiments.jsonl"
SCORES = ("top1", "top2", "top3", "top5", "macro_f1", "superclass_top1", "loss", "n", "checkpoint")


class Group(NamedTuple):
    """Configs, each trained with seeds 0, 1, ...; `epochs` overrides the epochs of the configs."""

    configs: tuple[str, ...]
    epochs: int | None = None
    seeds: int = 1


GROUPS = {
    "three_conv_short": Group(("three_conv:short",)),
    "three_conv": Group(("three_conv",)),
    "three_conv_20_epochs": Group(
        tuple(f"three_conv:{name}" for name in ("no_augment", "sgd", "sgd_tuned", "lr_1e-3", "decay", "dropout")), epochs=20
    ),
    "vgg_bn_5_epochs": Group(tuple(f"vgg_bn:{name}" for name in ("baseline", "base", "augment", "dropout")), epochs=5),
    "vgg_bn_short": Group(("vgg_bn:short",)),
    "wide_short": Group(("wide:short",)),
    "fast_sprint": Group(("fast:sprint",), seeds=5),
    "fast": Group(("fast",), seeds=5),
    "fast_long": Group(("fast:long",)),
}

_ONLY = flags.DEFINE_multi_enum("only", [], list(GROUPS), "groups to run")
_TABLE = flags.DEFINE_bool("table", False, "run nothing; print what has been measured")


def main() -> None:
    """Runs what is missing, or prints what is there."""
    if not _TABLE.value:
        fastest = fastest_dtype().value
        for name in _ONLY.value or GROUPS:
            group = GROUPS[name]
            for config, seed in itertools.product(group.configs, range(group.seeds)):
                wanted = {"config": config, "planned": group.epochs, "seed": seed, "dtype": fastest}
                if not any(wanted.items() <= line.items() for line in measured()):
                    run(config, group.epochs, seed)
    print(table())


def run(config: str, epochs: int | None, seed: int) -> None:
    """Trains and evaluates one seed of an experiment and appends its line; without `epochs`, those of the config.

    Raises:
      RunFailed: a command failed, whose error is printed above.
    """
    name = config.replace(":", "-") + (f"-{epochs}" if epochs else "") + (f"-seed{seed}" if seed else "")
    workdir = ROOT / "runs" / "experiments" / name
    stem, _, variant = config.partition(":")
    arguments = [f"--config=configs/{stem}.py{variant and ':' + variant}"]
    arguments += [f"--config.train.epochs={epochs}"] if epochs else []
    arguments += [f"--config.seed={seed}"] if seed else []
    memory = launch("train", *arguments, f"--workdir={workdir}")
    launch("evaluate", f"--run={workdir}", "--split=test")
    command = f"python launch/train.py {' '.join(arguments)}"
    line = {"config": config, "planned": epochs, "command": command, **figures(workdir), "peak_memory_gb": memory}
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def figures(workdir: Path) -> dict[str, Any]:
    """What a finished and evaluated run has to show."""
    config = read_checksummed(workdir / "config.json")
    scores = read_checksummed(workdir / "report" / "test.json")
    environment = read_checksummed(workdir / "environment.json")
    epochs = [record for record in read_records(workdir) if record["kind"] == "epoch"]
    best = max(epochs, key=lambda record: (record.get("validation_top1", 0.0), record["step"]))  # the last without validation
    return {
        "seed": config["seed"],
        "dtype": config["train"]["dtype"],
        "epochs": len(epochs),
        "images": epochs[-1]["step"] * config["train"]["batch_size"],
        "test": {name: scores[name] for name in SCORES if name in scores},
        "best_epoch": best["epoch"],
        "validation_top1": best.get("validation_top1"),
        "train_top1": best["train_top1"],
        "seconds": round(epochs[-1]["elapsed"]),
        "compilation": round(epochs[-1]["compilation"]),
        "commit": (environment["git_commit"] or "")[:10],
        "cpu": environment["cpu"],
        "cpus": environment["cpus"],
        "devices": environment["devices"],
        "jaxlib": environment["packages"]["jaxlib"],
        "date": environment["time"][:10],
    }


def measured() -> list[dict[str, Any]]:
    """The lines so far."""
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.exists() else []


def table() -> str:
    """They as Markdown."""
    head = "| experiment | dtype | epochs | seed | validation, % | test top-1 / 2 / 3 / 5, % | images | minutes | date |"
    rows = [head, "| --- " * head.count(" |") + "|"]
    for line in measured():
        guesses = " / ".join(f"{100 * line['test'][f'top{k}']:.2f}" for k in (1, 2, 3, 5))
        validation = "" if line["validation_top1"] is None else f"{100 * line['validation_top1']:.2f}"
        rows.append(
            f"| `{line['config']}` | {line['dtype']} | {line['epochs']} | {line['seed']} | {validation} | {guesses} | "
            f"{line['images']:,} | {line['seconds'] / 60:.0f} | {line['date']} |"
        )
    return "\n".join(rows)


def launch(app: str, *arguments: str) -> float:
    """Runs launch/APP.py to its end, and gives the most memory that it had at a time, in GB (10^9 bytes)."""
    process = subprocess.Popen([sys.executable, f"launch/{app}.py", *arguments], cwd=ROOT)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except KeyboardInterrupt:
        process.wait()  # it has heard it too, and saves
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RunFailed(f"launch/{app}.py {' '.join(arguments)} ended with exit code {process.returncode}")
    return round(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)


if __name__ == "__main__":
    app.run(main)
