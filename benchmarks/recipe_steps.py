"""Seconds of the programs of a training, each by itself, as launch/train.py dispatches them here.

    python benchmarks/recipe_steps.py --config=configs/fast.py:published [--figures=FILE]

A recipe with resolutions has programs for each, and for chunks and single steps. All are compiled side by side, then timed in
turns on random images; the sum over their dispatches is what the training takes of the device, beside which its epochs stand.
"""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start(large_pages=True)  # before what takes long to import

import collections
import functools
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.jax_network import draw, training_step
from benchmarks.timing import in_turns, time_steps
from cifar_flax.config import Config
from cifar_flax.config.flags import define_config_flag, experiment_from_flags
from cifar_flax.files.atomic import write_text
from cifar_flax.runtime import app
from cifar_flax.training.chunks import Chunk, ChunkPlan, total_epochs

ROUNDS, REPEATS = 3, 3  # times that each program is timed, and dispatches each time
_EXAMPLES = flags.DEFINE_integer("examples", 50_000, "training images, of which full batches are taken", lower_bound=1)
_FIGURES = flags.DEFINE_string("figures", None, "file for the figures, as JSON; else they are printed")


def main() -> None:
    """Times the programs of the config."""
    text = json.dumps(measure(experiment_from_flags().config, _EXAMPLES.value), indent=1)
    if _FIGURES.value:
        write_text(Path(_FIGURES.value), text + "\n")
    else:
        print(text)


def measure(config: Config, examples: int) -> list[dict[str, Any]]:
    """Seconds a dispatch of each program of a training on so many images, with its pixels, steps and number of dispatches."""
    workload = draw(config, config.train.batch_size)
    steps_per_epoch = examples // config.train.batch_size
    chunks = chunks_of(config, steps_per_epoch, workload.images.nbytes)
    dispatches = collections.Counter((chunk.image_size, chunk.length) for chunk in chunks)

    def build(program: tuple[int | None, int]) -> Any:
        image_size, length = program
        return training_step(workload, length, image_size=image_size)

    with ThreadPoolExecutor() as pool:
        built = dict(zip(dispatches, pool.map(build, dispatches), strict=True))
    turns = {str(program): functools.partial(time_steps, step, REPEATS) for program, step in built.items()}
    seconds = in_turns(turns, ROUNDS)
    return [
        {"image_size": size, "steps": length, "dispatches": count, "seconds": seconds[str((size, length))]}
        for (size, length), count in dispatches.items()
    ]


def chunks_of(config: Config, steps_per_epoch: int, batch_bytes: int) -> Sequence[Chunk]:
    """The dispatches of a whole training."""
    plan = ChunkPlan(config, steps_per_epoch, batch_bytes)
    return [chunk for epoch in range(total_epochs(config)) for chunk in plan.epoch(epoch, epoch * steps_per_epoch)]


if __name__ == "__main__":
    define_config_flag()
    app.run(main)
