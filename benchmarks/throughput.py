"""Speed of our training step beside plain JAX, PyTorch and Keras on the identical network, on the CPU, in turns.

    python benchmarks/throughput.py --config=configs/wide.py [--rounds=5] [--steps=3] [--batch_sizes=32,128] [--json]
    python benchmarks/throughput.py --config=configs/wide.py --frameworks=jax     # without the bench extra

A step is forward, backward and update on one batch that is in memory already. All start from our parameters, and none is timed
before its logits and gradients agree with ours. The update is by the config's optimizer where that is Adam or SGD, else by SGD
with Nesterov momentum; dropout and label smoothing stay, augmentation and the rest of the recipe are left out. Ours is the step
of launch/train.py: it alone also gathers and normalises the images and computes metrics. `ours` computes in bfloat16 where the
processor multiplies it fast, as PyTorch does under autocast and Keras by its policy in `torch_bf16` and `keras_bf16`; the rest,
and the matrix product by which the peak is measured, in float32.
"""

import functools
import importlib.util
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.plan import layers_of, multiply_adds
from benchmarks.ratios import ratios, training_flops
from benchmarks.timing import in_turns, rounds, speeds
from benchmarks.workers import Worker
from benchmarks.workload import CLASSES, PRODUCT, Answer, check_agreement, common_recipe
from cifar_flax.config import Config
from cifar_flax.config.flags import define_config_flag, experiment_from_flags
from cifar_flax.errors import UserError
from cifar_flax.runtime import app

define_config_flag()
FRAMEWORKS = {"jax": (), "torch": ("torch",), "keras": ("keras", "tensorflow")}  # name -> packages it takes
_FRAMEWORKS = flags.DEFINE_list("frameworks", list(FRAMEWORKS), f"of {', '.join(FRAMEWORKS)}; jax always takes part")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "times that each variant is timed", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 3, "steps a time", lower_bound=1)
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", [], "further batch sizes, beside the config's own")
_BFLOAT16 = flags.DEFINE_bool(
    "bfloat16",
    True,
    "time PyTorch and Keras in it too; ten times slower than float32 on a processor without instructions for it",
)
_JSON = flags.DEFINE_bool("json", False, "print one JSON object")
CHECKED, DRAWS = 8, 3  # images that the frameworks must agree on, and how often such are drawn
PRODUCT_FLOPS = 2 * PRODUCT**3


def main() -> None:
    """Checks that all do the same work, times it, and prints medians and ratios."""
    experiment = experiment_from_flags()
    config, sizes, names = common_recipe(experiment.config), _batch_sizes(experiment.config), _frameworks()
    work = multiply_adds(layers_of(config.model, CLASSES), _image_shape(config))
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(f"{name}_network")) for name in names}
        differences = _check(workers, config)
        seconds, remarks = _measure(workers, config, sizes)
        environment = workers["jax"].call("environment")
        for name, worker in workers.items():
            environment["packages"] |= worker.versions(FRAMEWORKS[name])
    actual = figures(experiment.name.partition("-")[0], seconds, work)
    if _JSON.value:
        measured = {"multiply_adds": work, "differences": differences, "remarks": remarks, "seconds_per_step": seconds}
        print(json.dumps({"config": experiment.name, **actual, **measured, "environment": environment}))
        return
    print(f"{experiment.name}: {work / 1e6:,.0f} M multiply-adds an image; {_ROUNDS.value} rounds of {_STEPS.value} steps")
    print(table(actual, sizes, seconds, work))
    print("\n".join(f"{name} {value:.3f}{_spread(actual, name)}" for name, value in actual.items() if isinstance(value, float)))
    print("\n".join([*(f"{name} differs from ours by {value:.0e} at most" for name, value in differences.items()), *remarks]))


def figures(prefix: str, seconds: Mapping[int, Mapping[str, list[float]]], work: int) -> dict[str, Any]:
    """Images a second, ratios, the peak and ours as a share of it.

    A ratio is of the medians of both; beside it stand those of each round, which say how quiet the machine was.

    Args:
      prefix: of the names, such as "wide".
      seconds: batch size -> variant -> seconds a step; ratios are those of the first batch size.
      work: multiply-adds of the network, per image.
    """
    images = {size: speeds(_networks(by_variant), size) for size, by_variant in seconds.items()}
    products = [values for by_variant in seconds.values() for name, values in by_variant.items() if _is_product(name)]
    peak = max(PRODUCT_FLOPS / statistics.median(values) for values in products)
    size, first = next(iter(images.items()))
    by_round = [ratios(speeds(one, size), prefix) for one in rounds(_networks(seconds[size]))]
    return {
        "batch_size": size,
        **ratios(first, prefix),
        "ratios_by_round": {name: [one[name] for one in by_round] for name in by_round[0]},
        f"{prefix}_share_of_peak": first["ours_f32"] * training_flops(work) / peak,
        "peak_gflops": peak / 1e9,
        "images_per_second": images,
    }


def table(actual: Mapping[str, Any], sizes: list[int], seconds: Mapping[int, Mapping[str, list[float]]], work: int) -> str:
    """A row a variant, a column a batch size: images a second.

    Of the first size also the slowest and the fastest round, and the share of the peak.
    """
    images, size = actual["images_per_second"], sizes[0]
    head = "".join(f"{f'batch {size}':>12}" for size in sizes)
    lines = [f"{'images/s':22}{head}{'rounds':>18}{'of peak':>9}"]
    for name, values in _networks(seconds[size]).items():
        columns = "".join(f"{images[size].get(name, float('nan')):12.1f}" for size in sizes)
        spread = f"{size / max(values):.1f} - {size / min(values):.1f}"
        share = images[size][name] * training_flops(work) / 1e9 / actual["peak_gflops"]
        lines.append(f"{name:22}{columns}{spread:>18}{share:9.1%}")
    return "\n".join(lines)


def _spread(actual: Mapping[str, Any], name: str) -> str:
    of_rounds = actual["ratios_by_round"].get(name)
    return f" (rounds {min(of_rounds):.3f} to {max(of_rounds):.3f})" if of_rounds else ""


def _check(workers: Mapping[str, Worker], config: Config) -> dict[str, float]:
    answers: dict[str, list[Answer]] = {}
    for seed in range(DRAWS):
        workload = workers["jax"].call("draw", config, CHECKED, seed).without_dropout()
        for worker in workers.values():
            for name, answer in worker.call("answers", workload).items():
                answers.setdefault(name, []).append(answer)
    ours = answers.pop("ours")
    return {name: check_agreement(name, ours, answer) for name, answer in answers.items()}


def _measure(
    workers: Mapping[str, Worker], config: Config, sizes: list[int]
) -> tuple[dict[int, dict[str, list[float]]], list[str]]:
    """Batch size -> variant -> seconds a step in each round; and what could not be measured."""
    seconds: dict[int, dict[str, list[float]]] = {}
    remarks: dict[str, None] = {}
    for size in sizes:
        workload = workers["jax"].call("draw", config, size)
        variants: dict[str, Callable[[], float]] = {}
        for framework, worker in workers.items():
            names, more = worker.build(workload, *(() if framework == "jax" else (_BFLOAT16.value,)))
            variants |= {name: functools.partial(worker.time_step, name, _STEPS.value) for name in names}
            remarks |= dict.fromkeys(more)
        seconds[size] = in_turns(variants, _ROUNDS.value)
    return seconds, list(remarks)


def _networks(by_variant: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: values for name, values in by_variant.items() if not _is_product(name)}


def _is_product(name: str) -> bool:
    return name.startswith("matrix_product")


def _image_shape(config: Config) -> tuple[int, int, int]:
    size = config.data.image_size or 32
    return size, size, 3


def _frameworks() -> list[str]:
    chosen = ["jax", *(name for name in _FRAMEWORKS.value if name != "jax")]
    for name in chosen:
        if name not in FRAMEWORKS:
            raise UserError(f"--frameworks: no {name!r}; expected some of {', '.join(FRAMEWORKS)}")
        if missing := [package for package in FRAMEWORKS[name] if importlib.util.find_spec(package) is None]:
            raise UserError(
                f"{missing[0]} is not installed; docs/performance.md says how, or leave it out with --frameworks=jax"
            )
    return chosen


def _batch_sizes(config: Config) -> list[int]:
    """The config's, which the ratios are for, and those of the flag."""
    if wrong := [size for size in _BATCH_SIZES.value if not size.isdecimal() or not int(size)]:
        raise UserError(f"--batch_sizes: {wrong[0]!r} is no batch size; expected whole numbers such as 32,64,128")
    return list(dict.fromkeys([config.train.batch_size, *map(int, _BATCH_SIZES.value)]))


if __name__ == "__main__":
    app.run(main)
