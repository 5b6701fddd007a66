"""Runs that differ in the seed alone, side by side: each step is one program for all of them, spread over the devices.

The devices form a grid of seeds by data: with as many seeds as devices each trains one of them, with fewer devices each trains
several as one batched program, with more several share one. Each run keeps its own directory and can be gone on with alone.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cifar_flax.config import Config
from cifar_flax.data.batches import epoch_batches
from cifar_flax.errors import RERUN_HINT, Preempted
from cifar_flax.evaluation.metrics import means
from cifar_flax.runtime.devices import compiler_options, put_dataset
from cifar_flax.runtime.preemption import Interrupt, StopRequested
from cifar_flax.training.checkpoint import Checkpoints
from cifar_flax.training.loop import validator
from cifar_flax.training.setup import Setup
from cifar_flax.training.state import TrainState, run_key
from cifar_flax.training.step import training_step
from cifar_flax.training.tracking import Tracker
from cifar_flax.training.workdir import open_workdir

Step = Callable[[Any, TrainState, Any, Any], tuple[TrainState, dict[str, jax.Array]]]


def can_train_together(config: Config, workdirs: Sequence[Path]) -> bool:
    """Whether the runs make the same steps: none ends early or alone changes its rate, and all have come equally far."""
    steps = {max((int(p.name) for p in (d / "checkpoints").glob("*") if p.name.isdigit()), default=0) for d in workdirs}
    alike = not (config.plateau.patience or config.early_stopping.patience)
    return alike and len(steps) == 1 and jax.process_count() == 1


def train_together(configs: Sequence[Config], workdirs: Sequence[Path], restart: bool, max_minutes: float | None) -> None:
    """Trains runs that differ in the seed alone, each in its own directory.

    Raises:
      UserError, RunFailed, Preempted: as `loop.train` does, of all of them.
    """
    with Interrupt(max_minutes) as interrupt, contextlib.ExitStack() as stack:
        setup = Setup.load(configs[0])
        setups = [dataclasses.replace(setup, config=config) for config in configs]
        for one, workdir in zip(setups, workdirs, strict=True):
            stack.enter_context(open_workdir(workdir, one.config, one.preprocessing, restart))
        checkpoints = [stack.enter_context(Checkpoints(workdir, setup.config.checkpoint)) for workdir in workdirs]
        restored = [kept.restore_latest(setup.abstract_state()) for kept in checkpoints]
        states = [was.state if was else one.initial_state() for was, one in zip(restored, setups, strict=True)]
        epochs_done = restored[0].epochs_done if restored[0] else 0
        trackers = [
            stack.enter_context(
                Tracker(workdir, config, setup.schedule, setup.steps_per_epoch, int(state.step), epochs_done, silent=i > 0)
            )
            for i, (workdir, config, state) in enumerate(zip(workdirs, configs, states, strict=True))
        ]
        trackers[0].say(f"{setup.layers()}\n{len(configs)} seeds side by side on {setup.mesh.size} devices; of the first:")
        trackers[0].start(len(setup.train_set), len(setup.validation_set or ()), setup.mesh.size)
        _run_epochs(setups, states, epochs_done, checkpoints, trackers, interrupt)
        for kept, track in zip(checkpoints, trackers, strict=True):
            kept.wait()
            track.finish(setup.config.train.epochs * setup.steps_per_epoch, stopped_early=False)


def _run_epochs(
    setups: Sequence[Setup],
    states: Sequence[TrainState],
    epochs_done: int,
    checkpoints: Sequence[Checkpoints],
    trackers: Sequence[Tracker],
    interrupt: Interrupt,
) -> None:
    setup, step = setups[0], int(states[0].step)
    config, size = setup.config, len(setup.train_set)
    mesh = _grid(len(setups))
    data, step_of, validate = put_dataset(setup.train_set, mesh), _steps(setup, mesh), validator(setup, interrupt)
    keys = jax.device_put(jnp.stack([run_key(one.config.seed) for one in setups]), NamedSharding(mesh, P("seed")))
    together = jax.device_put(jax.tree.map(lambda *x: jnp.stack(x), *states), NamedSharding(mesh, P("seed")))

    def save(scores: Sequence[dict[str, float] | None]) -> None:
        for i, (kept, track, score) in enumerate(zip(checkpoints, trackers, scores, strict=True)):
            track.flush()
            kept.save(_one(together, i, setup.mesh), epochs_done, score)

    try:
        while epochs_done < config.train.epochs:
            first = step - epochs_done * setup.steps_per_epoch
            batches = (epoch_batches(size, config.train.batch_size, one.config.seed, epochs_done, first) for one in setups)
            for indices in zip(*batches, strict=True):
                together, metrics = step_of(step)(keys, together, data, np.stack(indices))
                step += 1
                for i, track in enumerate(trackers):
                    track.step(step, {name: value[i] for name, value in metrics.items()})
                interrupt.check()
                if step % setup.steps_per_epoch and (checkpoints[0].due_by_time() or checkpoints[0].due_by_step(step)):
                    save([None] * len(setups))
            alone = [_one(together, i, setup.mesh) for i in range(len(setups))]
            scores = [validate(state) for state in alone]
            epochs_done += 1
            for track, state, score in zip(trackers, alone, scores, strict=True):
                track.epoch(epochs_done, step, means(state.metrics), score)
            save(scores)
            interrupt.check()
    except StopRequested as stop:
        save([None] * len(setups))
        for kept in checkpoints:
            kept.wait()
        where = checkpoints[0].directory.parent.parent
        raise Preempted(f"{stop}: saved {len(setups)} seeds at step {step} in {where}; {RERUN_HINT}") from None


def _grid(seeds: int) -> Mesh:
    """All devices as seeds x data, with as many rows as divide both the seeds and the devices."""
    rows = math.gcd(seeds, jax.device_count())
    return jax.make_mesh((rows, jax.device_count() // rows), ("seed", "data"), axis_types=(AxisType.Auto, AxisType.Auto))


def _steps(setup: Setup, mesh: Mesh) -> Callable[[int], Step]:
    """From the number of updates already made to the step of all seeds that comes next."""
    seeds, every = NamedSharding(mesh, P("seed")), NamedSharding(mesh, P())

    @functools.cache
    def at(size: int | None) -> Step:
        step = training_step(setup.config, setup.model, setup.optimizer, setup.preprocessing, setup.steps_per_epoch, size)
        return jax.jit(
            jax.vmap(step, in_axes=(0, 0, None, 0)),
            in_shardings=(seeds, seeds, every, NamedSharding(mesh, P("seed", "data"))),
            out_shardings=seeds,
            donate_argnums=1,
            compiler_options=compiler_options(setup.dtype),
        )

    return lambda step: at(setup.image_size(step))


def _one(together: TrainState, i: int, mesh: Mesh) -> TrainState:
    """One run's state, on all devices."""
    state: TrainState = jax.device_put(jax.tree.map(lambda x: x[i], together), NamedSharding(mesh, P()))
    return state
