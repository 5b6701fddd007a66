"""Cost of augmentation: training steps without it, with flip, shift and rotation, and with RandAugment, timed in turns.

    python benchmarks/augmentation_cost.py --config=configs/three_conv.py [--rounds=15] [--steps=5] [--figures=FILE]

Steps include gradients and the optimizer, and run in one process on random images: the time of a step does not depend on the
content of images.
"""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start(large_pages=True)  # before what takes long to import

import copy
import dataclasses
import functools
import json
import sys
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.jax_network import draw, training_step
from benchmarks.timing import in_turns, speeds, time_steps
from benchmarks.workload import Workload
from cifar_flax.config import AugmentConfig, Policy
from cifar_flax.config.flags import define_config_flag, experiment_from_flags
from cifar_flax.runtime import app
from cifar_flax.training.run_environment import describe_environment

define_config_flag()
_ROUNDS = flags.DEFINE_integer("rounds", 15, "measurements of each variant", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 5, "steps per measurement", lower_bound=1)
_FIGURES = flags.DEFINE_string("figures", None, "file for the figures, such as benchmarks/results/augmentation_cost.json")

VARIANTS = {
    "none": AugmentConfig(),
    "flip_shift_rotation": AugmentConfig(flip=True, width_shift=0.1, height_shift=0.1, rotation=15.0),
    "rand_augment": AugmentConfig(policy=Policy.RAND_AUGMENT),
}


def augmented(workload: Workload, augment: AugmentConfig) -> Workload:
    """The same workload with another augmentation."""
    config = copy.deepcopy(workload.config)
    config.augment = augment
    return dataclasses.replace(workload, config=config)


def main() -> None:
    """Times the variants in turns and prints medians and ratios."""
    config = experiment_from_flags().config
    workload = draw(config, config.train.batch_size)
    steps = {name: training_step(augmented(workload, augment)) for name, augment in VARIANTS.items()}
    variants = {name: functools.partial(time_steps, step, _STEPS.value) for name, step in steps.items()}
    medians = speeds(in_turns(variants, _ROUNDS.value), config.train.batch_size)
    ratios = {name: value / medians["none"] for name, value in medians.items()}
    for name, value in medians.items():
        print(f"{name:20} {value:8.1f} images/s   {ratios[name]:.3f} of none")
    if _FIGURES.value:
        figures = {"images_per_second": medians, "ratio": ratios, "environment": describe_environment()}
        Path(_FIGURES.value).write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    app.run(main)
