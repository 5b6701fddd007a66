"""Training, from a config to a run directory."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax

from cifar_flax.config import Config
from cifar_flax.data.batches import epoch_batches
from cifar_flax.errors import RERUN_HINT, Preempted
from cifar_flax.evaluation.evaluate import evaluate
from cifar_flax.evaluation.metrics import means
from cifar_flax.runtime.devices import put_dataset, put_global, replicated, sharded
from cifar_flax.runtime.multihost import StopConsensus, broadcast_from_main, raise_on_all_hosts, run_on_main_process
from cifar_flax.runtime.preemption import Interrupt, StopRequested
from cifar_flax.training.callbacks import count_epochs_without_improvement, lower_on_plateau, should_stop
from cifar_flax.training.checkpoint import Checkpoints
from cifar_flax.training.profiling import profiled
from cifar_flax.training.setup import Setup
from cifar_flax.training.state import TrainState
from cifar_flax.training.step import TrainStep, make_eval_step, make_train_step
from cifar_flax.training.tracking import Tracker
from cifar_flax.training.workdir import open_workdir

Scores = dict[str, float]
AfterEpoch = Callable[[int, Scores], None]


def train(
    config: Config,
    workdir: Path,
    restart: bool = False,
    after_epoch: AfterEpoch | None = None,
    profile: bool = False,
    max_minutes: float | None = None,
) -> TrainState:
    """Trains `config` in `workdir`, going on from its latest checkpoint, and returns the final state.

    Several processes that have joined by `cluster.join` train together, on the devices of all; the workdir is one that all see.

    Args:
      config: a checked config.
      workdir: the run directory, made where it is not there.
      restart: moves the run that is there aside and begins again.
      after_epoch: called with the number of each epoch that ends, counted from 1, and its validation scores, empty where there
        is no validation set. What it raises ends the run, with everything saved. A run that goes on does not call it for the
        epochs before.
      profile: records a trace of a few steps.
      max_minutes: after which it saves and ends as after SIGTERM.

    Raises:
      UserError: the config cannot be trained as it stands, the data are missing, or the workdir belongs to another run.
      RunFailed: the loss is not finite, or a checkpoint cannot be written. The last good checkpoint stays.
      Preempted: SIGTERM or SIGINT came, or the time was over; everything is saved.
    """
    with Interrupt(max_minutes) as interrupt:
        setup = raise_on_all_hosts(lambda: Setup.load(config))
        layers, step_of = setup.layers(), _training_steps(setup)
        # Before the folder is made: a run that cannot begin leaves nothing behind.
        initial = setup.initial_state() if broadcast_from_main(restart or not Checkpoints.any_in(workdir)) else None
        profiling = profiled(step_of, workdir) if profile else contextlib.nullcontext(step_of)
        lock = (
            run_on_main_process(lambda: open_workdir(workdir, config, setup.preprocessing, restart)) or contextlib.nullcontext()
        )
        with lock, profiling as step_of, Checkpoints(workdir, config.checkpoint) as checkpoints:
            state, epochs_done = checkpoints.restore_latest(setup.abstract_state()) or (initial or setup.initial_state(), 0)
            with Tracker(workdir, config, setup.schedule, setup.steps_per_epoch, int(state.step), epochs_done) as track:
                track.say(layers)
                track.start(len(setup.train_set), len(setup.validation_set or ()), setup.mesh.size)
                state = _run_epochs(setup, state, epochs_done, checkpoints, track, interrupt, after_epoch, step_of)
                checkpoints.wait()
                track.finish(int(state.step), should_stop(state.stopping, config.early_stopping))
    return state


def _run_epochs(
    setup: Setup,
    state: TrainState,
    epochs_done: int,
    checkpoints: Checkpoints,
    track: Tracker,
    interrupt: Interrupt,
    after_epoch: AfterEpoch | None,
    step_of: Callable[[int], TrainStep],
) -> TrainState:
    config, mesh = setup.config, setup.mesh
    validate, vote = validator(setup, interrupt), StopConsensus()
    data = put_dataset(setup.train_set, mesh)
    size, batch_size, step = len(setup.train_set), config.train.batch_size, int(state.step)
    try:
        while epochs_done < config.train.epochs and not should_stop(state.stopping, config.early_stopping):
            track.scale_learning_rate(state.learning_rate_scale)
            first = step - epochs_done * setup.steps_per_epoch
            for indices in epoch_batches(size, batch_size, config.seed, epochs_done, first):
                state, metrics = step_of(step)(state, data, put_global(indices, sharded(mesh)))
                step += 1
                track.step(step, metrics)
                save = vote(step, state, interrupt, checkpoints.due_by_time(), track.steps_per_second)
                if step % setup.steps_per_epoch and (save or checkpoints.due_by_step(step)):
                    track.flush()
                    checkpoints.save(state, epochs_done)
            track.flush()
            scores = validate(state)
            epochs_done += 1
            track.epoch(epochs_done, step, means(state.metrics), scores)
            track.first_layer(step, state.params, setup.preprocessing.image_shape)
            state = _heed(setup, state, scores)
            checkpoints.save(state, epochs_done, scores)
            if after_epoch is not None:
                after_epoch(epochs_done, scores)
            vote(step, state, interrupt, False, track.steps_per_second, now=True)
    except StopRequested as stop:
        track.flush()
        checkpoints.save(state, epochs_done)
        checkpoints.wait()
        raise Preempted(f"{stop}: saved at step {step} in {checkpoints.directory.parent}; {RERUN_HINT}") from None
    return state


def _training_steps(setup: Setup) -> Callable[[int], TrainStep]:
    """From the number of updates already made to the step that comes next: one program for each resolution."""
    config = setup.config

    @functools.cache
    def at(size: int | None) -> TrainStep:
        return make_train_step(
            config, setup.model, setup.optimizer, setup.preprocessing, setup.steps_per_epoch, setup.dtype, setup.mesh, size
        )

    return lambda step: at(setup.image_size(step))


def validator(setup: Setup, interrupt: Interrupt) -> Callable[[TrainState], Scores]:
    """From a state to its scores on the validation set; none where there is no such set."""
    if setup.validation_set is None:
        return lambda state: {}
    step = make_eval_step(setup.model, setup.preprocessing, setup.dtype, setup.mesh)
    data, batch_size = put_dataset(setup.validation_set, setup.mesh), setup.config.train.eval_batch_size
    between = interrupt.check if jax.process_count() == 1 else lambda: None  # several stop together, after it
    return lambda state: evaluate(step, state.eval_variables, data, batch_size, setup.mesh, between)


def _heed(setup: Setup, state: TrainState, scores: Scores) -> TrainState:
    """Takes the scores of an epoch into account: for the learning rate, and for when to stop."""
    config, plateau, stopping = setup.config, state.plateau, state.stopping
    if plateau is not None:
        plateau = lower_on_plateau(plateau, config.plateau, config.optim.learning_rate, scores)
    if stopping is not None:
        stopping = count_epochs_without_improvement(stopping, config.early_stopping, scores)
    plateau, stopping = put_global((plateau, stopping), replicated(setup.mesh))
    return dataclasses.replace(state, plateau=plateau, stopping=stopping)
