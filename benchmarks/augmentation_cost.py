"""What augmentation costs: training steps without it, with flip, shift and rotation, and with RandAugment, in turns.

    python benchmarks/augmentation_cost.py --config=configs/three_conv.py [--rounds=15] [--steps=5] [--json=FILE]

Steps are whole ones, gradients and optimizer included, in one process and on the images of shapes100, whichever set the config
names: how long a step takes does not depend on what is on the images.
"""

import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import flags

from cifar_flax import cli
from cifar_flax.config import AugmentConfig, Config, Policy
from cifar_flax.training.devices import place
from cifar_flax.training.setup import Setup
from cifar_flax.training.step import make_train_step

cli.define_config_flag()
_ROUNDS = flags.DEFINE_integer("rounds", 15, "times that each variant is timed", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 5, "steps a time", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "a file to write the figures to, such as benchmarks/results/augmentation_cost.json")

VARIANTS = {
    "none": AugmentConfig(),
    "flip_shift_rotation": AugmentConfig(flip=True, width_shift=0.1, height_shift=0.1, rotation=15.0),
    "rand_augment": AugmentConfig(policy=Policy.RAND_AUGMENT),
}


def build(config: Config, augment: AugmentConfig) -> Callable[[], None]:
    """Compiles the training step of `config` with `augment`; returns a function that makes one step and waits for it."""
    config = copy.deepcopy(config)
    config.augment, config.data.name = augment, "shapes100"
    setup = Setup.load(config)
    state = setup.initial_state()
    step = make_train_step(
        config, setup.model, setup.optimizer, setup.preprocessing, setup.steps_per_epoch, setup.dtype, setup.mesh
    )
    data, indices = place(setup.train_set, setup.mesh), np.arange(config.train.batch_size, dtype=np.int32)

    def one() -> None:
        nonlocal state
        state, metrics = step(state, data, indices)
        jax.block_until_ready(metrics)

    one()  # compiles
    return one


def main() -> None:
    """Times the variants in turns and prints medians and ratios."""
    config = cli.experiment_from_flags().config
    variants = {name: build(config, augment) for name, augment in VARIANTS.items()}
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(_ROUNDS.value):
        for name, step in variants.items():
            start = time.perf_counter()
            for _ in range(_STEPS.value):
                step()
            speeds[name].append(_STEPS.value * config.train.batch_size / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ratios = {name: value / medians["none"] for name, value in medians.items()}
    for name, value in medians.items():
        print(f"{name:20} {value:8.1f} images/s   {ratios[name]:.3f} of none")
    if _JSON.value:
        figures = {"images_per_second": medians, "ratio": ratios, "jax": jax.__version__, "cpus": os.cpu_count()}
        Path(_JSON.value).write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    cli.run(main)
