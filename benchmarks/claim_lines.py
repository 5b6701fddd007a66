"""The lines of benchmarks/results/claims.jsonl: what a run has to show, and a table of all."""

import csv
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claim_times import hardware
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.training.records import read_epochs

SCORES = ("top1", "top2", "top3", "top5", "macro_f1", "superclass_top1", "ece", "loss", "n", "checkpoint")
COLOR = ("grey", "hue", "mean_hue")
CURVES = ("epoch", "train_loss", "train_top1", "validation_loss", "validation_top1", "validation_f1", "validation_batch_f1")
POINTS = 50  # epochs of a curve
Line = Mapping[str, Any]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines so far.

    Raises:
      UserError: a line is no JSON object.
    """
    lines: list[Any] = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], 1):
        try:
            lines.append(json.loads(line))
        except ValueError:
            lines.append(None)
        if not isinstance(lines[-1], dict):
            raise UserError(f"{path}: line {number} is no JSON object; give a file that claims.py wrote")
    return lines


def figures(workdir: Path, views: Sequence[str] = ()) -> dict[str, Any]:
    """Figures of a finished run that was evaluated as it is and, in folders of their own, with these views."""
    config = read_checksummed(workdir / "config.json")
    scores = read_checksummed(workdir / "report" / "test.json")
    color = workdir / "report" / "test_color.json"
    epochs = read_epochs(workdir)
    best = max(epochs, key=lambda record: (record.get("validation_top1") or 0.0, record["step"]))  # the last without validation
    line: dict[str, Any] = {
        "seed": config["seed"],
        "data": config["data"]["name"],
        "epochs": len(epochs),
        "images": epochs[-1]["step"] * config["train"]["batch_size"],
        "test": {name: scores[name] for name in SCORES if name in scores},
        "best_epoch": best["epoch"],
        "validation_top1": best.get("validation_top1"),
        "train_top1": best["train_top1"],
        "seconds": round(epochs[-1]["elapsed"]),
        "compilation": round(epochs[-1]["compilation"]),
        "curves": curves(epochs),
        **made_with(workdir),
    }
    if color.exists():
        line["color"] = {name: value for name, value in read_checksummed(color).items() if name in COLOR}
    for view in views:
        scores = read_checksummed(workdir / view / f"test_{view}.json")
        line[f"test_{view.replace('+', '_')}"] = {"top1": scores["top1"]}
    return line


def search_figures(workdir: Path) -> dict[str, Any]:
    """Figures of a finished search: its trials, best first, and the environment of the first of them."""
    with (workdir / "trials.csv").open(encoding="utf-8", newline="") as file:
        trials = [{name: value for name, value in row.items() if value and name != "run"} for row in csv.DictReader(file)]
    runs = sorted(path.parent for path in (workdir / "trials").rglob("environment.json"))
    last = [read_epochs(run)[-1:] for run in runs]
    seconds = sum(record["elapsed"] for records in last for record in records)
    return {"trials": trials, "runs": len(runs), "seconds": round(seconds), **made_with(runs[0])}


def made_with(workdir: Path) -> dict[str, Any]:
    """Dtype, commit, hardware, versions and date of a run."""
    environment = read_checksummed(workdir / "environment.json")
    return {
        "dtype": read_checksummed(workdir / "config.json")["train"]["dtype"],
        "commit": (environment["git_commit"] or "")[:10] + ("+changes" if environment["git_dirty"] else ""),
        "cpu": environment["cpu"],
        "cpu_flags": environment["cpu_flags"],
        "cpus": environment["cpus"],
        "devices": environment["devices"],
        "jaxlib": environment["packages"]["jaxlib"],
        "versions": {name: environment["packages"][name] for name in ("jax", "flax", "optax")},
        "date": environment["time"][:10],
    }


def curves(epochs: Sequence[Line]) -> dict[str, list[float | None]]:
    """The records of at most POINTS epochs, the first and the last among them, as lists with four places."""
    count = min(len(epochs), POINTS)
    chosen = [epochs[round(i * (len(epochs) - 1) / max(1, count - 1))] for i in range(count)]
    names = [name for name in CURVES if name in epochs[0]]
    return {name: [None if record[name] is None else round(record[name], 4) for record in chosen] for name in names}


def table(lines: Sequence[Line]) -> str:
    """The lines as Markdown: trainings of one command and dtype on one kind of machine in a row, then the searches."""
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        if "test" in line:
            groups.setdefault((command(line), line["dtype"], line.get("data"), hardware(line)), []).append(line)
    head = "| command | dtype | n | epochs | validation, % | training, % | test top-1 / 2 / 3 / 5, % | minutes | on, date |"
    rows = [head, "| --- " * (head.count("|") - 1) + "|"]
    for (name, dtype, _, machine), members in groups.items():
        scores = [[100 * line["test"][f"top{k}"] for line in members if f"top{k}" in line["test"]] for k in (1, 2, 3, 5)]
        test = " / ".join(spread(values, with_sd=k == 0) if values else "?" for k, values in enumerate(scores))
        validation, training = (percent(members, key) for key in ("validation_top1", "train_top1"))
        minutes = f"{statistics.mean(line['seconds'] for line in members) / 60:.1f}"
        date = max(line["date"] for line in members)
        run = f"`{name}` | {dtype} | {len(members)} | {members[0]['epochs']}"
        rows.append(f"| {run} | {validation} | {training} | {test} | {minutes} | {machine}, {date} |")
    for line in lines:
        if "search" in line:
            values = {name: value for name, value in line["trials"][0].items() if name not in ("rank", "trial", "state")}
            rows.append(f"\n`{line['command']}`: {len(line['trials'])} trials, {line['seconds'] / 60:.0f} min; best: {values}")
    return "\n".join(rows)


def distances(recorded: Sequence[Line], measured: Sequence[Line]) -> str:
    """Distances of the test top-1 of trainings from the recorded ones of the same command and dtype: a line each.

    They are in standard deviations of a seed, and in standard errors of the difference of the two means.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for line in measured:
        if "test" in line:
            groups.setdefault((command(line), line["dtype"]), []).append(100 * line["test"]["top1"])
    rows = []
    for (name, dtype), values in groups.items():
        before = [
            100 * line["test"]["top1"]
            for line in recorded
            if "test" in line and (command(line), line["dtype"]) == (name, dtype)
        ]
        text = f"{name}, {dtype}: test top-1 {spread(values)} %, n = {len(values)}"
        if before:
            difference, sd = statistics.mean(values) - statistics.mean(before), statistics.stdev(before) if before[1:] else 0.0
            text += f"; recorded {spread(before)} %, n = {len(before)}: {difference:+.2f}"
            error = sd * math.sqrt(1 / len(values) + 1 / len(before))
            text += f", which is {abs(difference) / sd:.1f} sd, {abs(difference) / error:.1f} standard errors" if sd else ""
        rows.append(text)
    return "\n".join(rows)


def command(line: Line) -> str:
    """The command that made a line, for any seed, from the config on: `three_conv.py:short --config.train.epochs=5`."""
    words = line["command"].split()
    return " ".join(word for word in words if not word.startswith("--config.seed=")).rpartition("--config=configs/")[2]


def percent(lines: Sequence[Line], key: str) -> str:
    """Mean of a figure in percent; nothing where a line has none."""
    values = [line.get(key) for line in lines]
    return "" if None in values else f"{100 * statistics.mean(value for value in values if value is not None):.2f}"


def spread(values: Sequence[float], with_sd: bool = True) -> str:
    """Mean and, of several values, their standard deviation (n - 1)."""
    sd = f" (sd {statistics.stdev(values):.2f})" if with_sd and len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{sd}"
