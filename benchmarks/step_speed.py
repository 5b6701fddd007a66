"""Speed of the training step against the same step as JAX compiles it by default, interleaved in one process.

    python benchmarks/step_speed.py --config=configs/wide.py [--rounds=5] [--steps=3] [--json]

Three variants do the same work, augmentation, gradients, optimizer and metrics included, on the same random images:
  ours      what launch/train.py runs
  defaults  the same, without our compiler options
  plain     without them, and with Flax's own convolution, ELU and max pooling in place of ours
"""

import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import numpy as np
from absl import flags

from cifar_flax import cli
from cifar_flax.config import Activation, Config, Normalization
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.models import convnet, create_model
from cifar_flax.models.layers import ACTIVATIONS
from cifar_flax.optim.optimizers import create_optimizer
from cifar_flax.optim.schedules import create_schedule
from cifar_flax.training.devices import compute_dtype, data_parallel_mesh, place
from cifar_flax.training.state import create_state
from cifar_flax.training.step import make_train_step

cli.define_config_flag()
_ROUNDS = flags.DEFINE_integer("rounds", 5, "times that each variant is timed", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 3, "steps a time", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "print one JSON object")
IMAGES, CLASSES = 2000, 100


@contextlib.contextmanager
def default_options() -> Iterator[None]:
    """Our step as `jax.jit` compiles it by default."""
    with mock.patch("cifar_flax.training.step.compiler_options", return_value={}):
        yield


@contextlib.contextmanager
def plain_layers() -> Iterator[None]:
    """Convolution, ELU and max pooling as Flax has them."""

    def conv(features: int, size: int, **options: Any) -> nn.Module:
        return nn.Conv(features, (size, size), **options)

    def max_pool(x: jax.Array, window: int) -> jax.Array:
        return nn.max_pool(x, (window, window), (window, window))

    with mock.patch.multiple(convnet, Conv=conv, max_pool=max_pool), mock.patch.dict(ACTIVATIONS, {Activation.ELU: nn.elu}):
        yield


def build(config: Config) -> Callable[[], None]:
    """Compiles the training step of `config` on random images; returns a function that makes one step and waits for it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    dataset = Dataset(images, rng.integers(0, CLASSES, IMAGES, dtype=np.int32), tuple(map(str, range(CLASSES))))
    mesh, dtype = data_parallel_mesh(), compute_dtype(config.train.dtype)
    preprocessing = Preprocessing.of(dataset, Normalization.UNIT, {})
    model = create_model(config.model, CLASSES, dtype)
    optimizer = create_optimizer(config.optim, create_schedule(config.optim, 1000, 100))
    state = create_state(config, model, optimizer, np.zeros((1, 32, 32, 3), np.float32), mesh)
    step = make_train_step(config, model, optimizer, preprocessing, 100, dtype, mesh)
    data, indices = place(dataset, mesh), np.arange(config.train.batch_size, dtype=np.int32)

    def one() -> None:
        nonlocal state
        state, metrics = step(state, data, indices)
        jax.block_until_ready(metrics)

    one()  # compiles
    return one


def main() -> None:
    """Times the variants in turns and prints medians and ratios."""
    config = cli.experiment_from_flags().config
    variants = {"ours": build(config)}
    with default_options():
        variants["defaults"] = build(config)
        with plain_layers():
            variants["plain"] = build(config)
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(_ROUNDS.value):
        for name, step in variants.items():
            start = time.perf_counter()
            for _ in range(_STEPS.value):
                step()
            speeds[name].append(_STEPS.value * config.train.batch_size / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ratios = {f"ratio_{name}": medians["ours"] / medians[name] for name in ("defaults", "plain")}
    if _JSON.value:
        print(json.dumps({"images_per_second": medians, **ratios, "jax": jax.__version__, "cpus": os.cpu_count()}))
        return
    for name, value in medians.items():
        print(f"{name:10} {value:8.1f} images/s   ours / {name}: {medians['ours'] / value:.2f}")


if __name__ == "__main__":
    cli.run(main)
