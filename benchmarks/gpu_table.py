"""The figures of benchmarks/gpu.py as Markdown."""

import statistics
from collections.abc import Mapping
from typing import Any


def table(results: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    lines = []
    if figures := results.get("commands"):
        lines += ["| `fast:published`, one seed | command, s | training, s | of it waiting for programs, s | test top-1, % |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        alone = [*(figures[name] for name in ("cold", "warm")), *results.get("seeds", {}).get("alone", {}).values()]
        scores = [*figures["test_top1"], *results.get("seeds", {}).get("test_top1", [])]
        for seed, (times, top1) in enumerate(zip(alone, scores, strict=True)):
            label = f"seed {seed}, {'nothing compiled' if seed == 0 else 'programs on disk'}"
            lines.append(f"| {label} | {_times(times)} | {100 * top1:.2f} |")
        if len(scores) > 1:
            lines.append(
                f"\nMean {100 * statistics.mean(scores):.2f} %, sd {100 * statistics.stdev(scores):.2f}, n = {len(scores)}.\n"
            )
    if figures := results.get("seeds"):
        vmapped, ratio = figures["vmapped"], figures["three_conv"]["ratio"]
        count = len(vmapped["test_top1"])
        mean = 100 * statistics.mean(vmapped["test_top1"])
        lines += [
            f"{count} seeds in one program: command, training, waiting {_times(vmapped)} s; mean of test {mean:.2f} %.",
            f"{count} seeds of `three_conv` in one program take {ratio:.2f} times the training of one.\n",
        ]
    if figures := results.get("steps"):
        names = list(dict.fromkeys(variant for by_variant in figures["seconds_per_step"].values() for variant in by_variant))
        lines += [
            f"| milliseconds a step | {' | '.join(names)} | speed over the faster of PyTorch |",
            "| --- " * (len(names) + 2) + "|",
        ]
        for name, by_variant in figures["seconds_per_step"].items():
            medians = {variant: 1e3 * statistics.median(values) for variant, values in by_variant.items()}
            torch = [value for variant, value in medians.items() if variant.startswith("torch")]
            ratio = f"{min(torch) / medians['ours']:.2f}" if torch else ""
            columns = " | ".join(f"{medians[variant]:.3f}" if variant in medians else "" for variant in names)
            lines.append(f"| `{name}`, batch {figures['batch_sizes'][name]} | {columns} | {ratio} |")
        lines += ["", *figures["remarks"]]
    if figures := results.get("resume"):
        how = "the same bits" if figures["bitwise_equal"] else "OTHER BITS"
        lines.append(f"Killed after step {figures['killed_after_step']} and resumed: {how}.")
    if figures := results.get("tests"):
        lines.append(f"Tests: exit code {figures['exit_code']}; {figures['summary']}")
    return "\n".join(lines)


def _times(times: Mapping[str, float]) -> str:
    return " | ".join(f"{times[name]:.2f}" for name in ("command", "training", "compilation"))
