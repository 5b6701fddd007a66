"""Time of a training of the list on this machine: by its like, by other trainings, or by a matrix product."""

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.claim_list import Claim, Search, Training, loaded
from benchmarks.machine import DESCRIBE, in_a_child
from benchmarks.plan import layers_of, multiply_adds
from cifar_flax.config import Config, Dtype

TRAIN_IMAGES = {"shapes100": 25_000}  # else 50,000
STARTUP_SECONDS = 20.0  # seconds until the first step, and for the scores
SECONDS_A_STEP = 5e-4  # what a step of no work takes
# Of the speed of a matrix product that trainings reach; .33 to .6 where both were measured, on two CPU cores.
MATMUL_EFFICIENCY = 0.35
# What multiplies numbers fastest, best first: its flag in /proc/cpuinfo, and its name.
ARITHMETIC = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
PASSES = 3  # a step's multiply-adds in those of a forward pass

_PRODUCT = """
import time, jax, jax.numpy as jnp
x = jnp.ones((2048, 2048), jnp.bfloat16 if figures["fast_bfloat16"] else jnp.float32)
product = jax.jit(lambda x: x @ x)
product(x).block_until_ready()
seconds = []
for _ in range(5):
    begin = time.perf_counter()
    product(x).block_until_ready()
    seconds.append(time.perf_counter() - begin)
figures["multiply_adds_a_second"] = 2048**3 / min(seconds)
"""


def this_machine() -> dict[str, Any]:
    """`environment.json` of a run here, and multiply_adds_a_second of a matrix product; raises as `in_a_child`."""
    return in_a_child(DESCRIBE + _PRODUCT)


def hardware(environment: Mapping[str, Any]) -> str:
    """The hardware that sets the speed: the accelerator, or the processor, their number, and the widest arithmetic it has."""
    first = str(environment["devices"][0])
    if first != "cpu":
        return first
    arithmetic = next((f", {name}" for flag, name in ARITHMETIC.items() if flag in environment["cpu_flags"]), "")
    return f"{environment['cpus']} x {environment['cpu']}{arithmetic}"


def dtype(config: Config, machine: Mapping[str, Any]) -> str:
    """The compute dtype of a config on a machine."""
    fastest = Dtype.BFLOAT16 if machine["fast_bfloat16"] else Dtype.FLOAT32
    return str((fastest if config.train.dtype is Dtype.AUTO else config.train.dtype).value)


def estimate(claim: Claim, lines: Iterable[Mapping[str, Any]], machine: Mapping[str, Any]) -> tuple[float, str]:
    """Seconds of one seed of a training, or of a whole search, and what they are from."""
    config = loaded(claim)
    held_out = 1 / claim.folds if isinstance(claim, Search) and claim.folds > 1 else config.data.validation_fraction
    images = _images(config, held_out)
    # Not lines of runs beside others, or beside other work, which their notes say.
    alone = [line for line in lines if "test" in line and not {"at_once", "note"} & line.keys()]
    here = [line for line in alone if (hardware(line), line["dtype"]) == (hardware(machine), dtype(config, machine))]
    runs = claim.trials * claim.folds if isinstance(claim, Search) else 1
    if alike := [_seconds(line) / line["images"] for line in here if line["config"] == claim.config]:
        seconds, source = images * statistics.median(alike), "its like here"
    else:
        work = _work(claim.config)
        works = {line["config"]: _work(line["config"]) for line in here}
        speed, source = MATMUL_EFFICIENCY * machine["multiply_adds_a_second"], "multiply-adds, by a matrix product"
        if works:
            nearest = min(works, key=lambda name: abs(math.log(works[name] / work)))
            speeds = [line["images"] * works[nearest] / _seconds(line) for line in here if line["config"] == nearest]
            speed, source = statistics.median(speeds), f"multiply-adds, at the rate of {nearest} here"
        seconds = images * work / speed + images / config.train.batch_size * SECONDS_A_STEP
    return runs * (seconds + STARTUP_SECONDS), source


def _seconds(line: Mapping[str, Any]) -> float:
    return max(0.5, float(line["seconds"]) - float(line.get("compilation") or 0))  # recorded in whole seconds


def _images(config: Config, held_out: float) -> int:
    """Images that a run trains on, all epochs together, where a share of the training split is held out."""
    there = TRAIN_IMAGES.get(config.data.name, 50_000)
    per_epoch = int(there * (1 - held_out)) // config.train.batch_size * config.train.batch_size
    return int(per_epoch * config.train.epochs)


def _work(name: str) -> float:
    """Multiply-adds of an image in training, of the resolutions on average."""
    config = loaded(Training(name))
    total, begin = 0.0, 0.0
    for until, size in [*((float(r.until), r.size) for r in config.train.resolutions), (1.0, 32)]:
        total += (until - begin) * (size / 32) ** 2
        begin = until
    classes = 10 if config.data.name == "cifar10" else 100
    work = PASSES * total * multiply_adds(layers_of(config.model, classes), (32, 32, 3))
    if config.train.teacher:  # "pretrained:fast_long", which sees images of 32 pixels, is of fast:long
        teacher = loaded(Training(config.train.teacher.partition(":")[2].replace("_", ":")))
        work += multiply_adds(layers_of(teacher.model, classes), (32, 32, 3))
    return work
