"""The figures of benchmarks/gpu.py as Markdown, of parts that are not complete too."""

import statistics
from collections.abc import Mapping
from typing import Any


def table(results: Mapping[str, Any]) -> str:
    """The figures as Markdown; empty where there are none."""
    parts = {name: results.get(name, {}) for name in ("commands", "recipe", "seeds", "steps", "resume", "tests", "autotuning")}
    lines = [*_commands(parts["commands"], parts["seeds"], _device_seconds(parts["recipe"]))]
    lines += [*_recipe(parts["recipe"]), *_seeds(parts["seeds"]), *_steps(parts["steps"])]
    if figures := parts["resume"]:
        how = "the same bits" if figures["bitwise_equal"] else "OTHER BITS"
        lines.append(f"Killed after step {figures['killed_after_step']} of {figures['steps']} and resumed: {how}.")
    if figures := parts["tests"]:
        lines.append("\n".join((f"Tests: exit code {figures['exit_code']}; {figures['summary']}", *figures["failed"])))
    for level, seconds in parts["autotuning"].get("levels", {}).items():
        lines.append(f"At autotuning level {level}, nothing compiled: command, training, waiting {_times(seconds)} s.")
    return "\n".join(lines)


def _commands(first: Mapping[str, Any], more: Mapping[str, Any], device_seconds: float | None) -> list[str]:
    times = {**first.get("alone", {}), **more.get("alone", {})}
    if not times:
        return []
    scored = [part for part in (first, more) if "test_top1" in part]
    top1 = {name: value for part in scored for name, value in zip(part["alone"], part["test_top1"], strict=True)}
    lines = [
        "| `fast:published`, one seed | command, s | training, s | waiting for programs, s | epochs, s | "
        "over the steps' own time | test top-1, % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, seconds in times.items():
        programs = "programs on disk" if seconds["cached"] else "nothing compiled"
        score = f"{100 * top1[name]:.2f}" if name in top1 else ""
        epochs = sum(seconds["epochs"])
        ratio = "" if device_seconds is None else f"{epochs / device_seconds:.2f}"
        lines.append(f"| {name.replace('seed', 'seed ')}, {programs} | {_times(seconds)} | {epochs:.2f} | {ratio} | {score} |")
    if len(top1) > 1:
        mean, deviation = 100 * statistics.mean(top1.values()), 100 * statistics.stdev(top1.values())
        lines.append(f"\nMean {mean:.2f} %, sd {deviation:.2f}, n = {len(top1)}.\n")
    return lines


def _device_seconds(figures: Mapping[str, Any]) -> float | None:
    """Of the steps of a training; None where they were not measured."""
    if not figures:
        return None
    return sum(program["dispatches"] * statistics.median(program["seconds"]) for program in figures["programs"])


def _recipe(figures: Mapping[str, Any]) -> list[str]:
    if not figures:
        return []
    lines = ["", "| program of `fast:published`, px | steps | dispatches | milliseconds a step |", "| --- | --- | --- | --- |"]
    for program in figures["programs"]:
        size, steps = program["image_size"] or "all", program["steps"]
        each = 1e3 * statistics.median(program["seconds"]) / steps
        lines.append(f"| {size} | {steps} | {program['dispatches']} | {each:.3f} |")
    return [*lines, "", f"The steps of a training take {_device_seconds(figures):.2f} s.", ""]


def _seeds(figures: Mapping[str, Any]) -> list[str]:
    lines = []
    if vmapped := figures.get("vmapped"):
        count, mean = len(vmapped["test_top1"]), 100 * statistics.mean(vmapped["test_top1"])
        times = _times(vmapped)
        lines.append(f"{count} seeds in one program: command, training, waiting {times} s; mean of test {mean:.2f} %.")
        if three_conv := figures.get("three_conv"):
            ratio = three_conv["ratio"]
            lines.append(f"{count} seeds of `three_conv` in one program take {ratio:.2f} times the training of one.\n")
    return lines


def _steps(figures: Mapping[str, Any]) -> list[str]:
    if not figures:
        return []
    names = list(dict.fromkeys(variant for by_variant in figures["seconds_per_step"].values() for variant in by_variant))
    lines = [
        "A step without augmentation, of an optimizer that both have:\n",
        f"| milliseconds a step | {' | '.join(names)} | speed over the faster of PyTorch |",
        "| --- " * (len(names) + 2) + "|",
    ]
    for name, by_variant in figures["seconds_per_step"].items():
        medians = {variant: 1e3 * statistics.median(values) for variant, values in by_variant.items()}
        torch = [value for variant, value in medians.items() if variant.startswith("torch")]
        ratio = f"{min(torch) / medians['ours']:.2f}" if torch else ""
        columns = " | ".join(f"{medians[variant]:.3f}" if variant in medians else "" for variant in names)
        lines.append(f"| `{name}`, batch {figures['batch_sizes'][name]} | {columns} | {ratio} |")
    return [*lines, "", *figures["remarks"]]


def _times(times: Mapping[str, float]) -> str:
    return " | ".join(f"{times[name]:.2f}" for name in ("command", "training", "compilation"))
