"""Training, from a config to a run directory."""

from pathlib import Path

from cifar_flax.config import Config
from cifar_flax.data.batches import epoch_batches
from cifar_flax.errors import Preempted
from cifar_flax.training.checkpoint import Checkpoints
from cifar_flax.training.devices import place
from cifar_flax.training.evaluation import evaluate
from cifar_flax.training.interrupt import Interrupt, StopRequested
from cifar_flax.training.metrics import means
from cifar_flax.training.setup import Setup
from cifar_flax.training.state import TrainState
from cifar_flax.training.step import make_eval_step, make_train_step
from cifar_flax.training.tracking import Tracker
from cifar_flax.training.workdir import open_workdir


def train(config: Config, workdir: Path, restart: bool = False) -> TrainState:
    """Trains `config` in `workdir`, going on from its latest checkpoint, and returns the final state.

    Args:
      config: a checked config.
      workdir: the run directory, made where it is not there.
      restart: moves the run that is there aside and begins again.

    Raises:
      UserError: the config cannot be trained as it stands, the data are missing, or the workdir belongs to another run.
      RunFailed: the loss is not finite, or a checkpoint cannot be written. The last good checkpoint stays.
      Preempted: SIGTERM or SIGINT came; everything is saved.
    """
    setup = Setup.load(config)
    layers = setup.layers()
    with open_workdir(workdir, config, setup.preprocessing, restart), Interrupt() as interrupt:
        with Checkpoints(workdir, config.checkpoint) as checkpoints:
            state, epochs_done = checkpoints.restore_latest(setup.abstract_state()) or (setup.initial_state(), 0)
            with Tracker(workdir, config, setup.schedule, setup.steps_per_epoch, int(state.step), epochs_done) as track:
                track.say(layers)
                track.start(len(setup.train_set), len(setup.validation_set or ()), setup.mesh.size)
                state = _run_epochs(setup, state, epochs_done, checkpoints, track, interrupt)
                checkpoints.wait()
                track.finish()
    return state


def _run_epochs(
    setup: Setup, state: TrainState, epochs_done: int, checkpoints: Checkpoints, track: Tracker, interrupt: Interrupt
) -> TrainState:
    config, mesh, model, preprocessing = setup.config, setup.mesh, setup.model, setup.preprocessing
    train_step = make_train_step(config, model, setup.optimizer, preprocessing, setup.steps_per_epoch, setup.dtype, mesh)
    eval_step = make_eval_step(model, preprocessing, setup.dtype, mesh)
    data = place(setup.train_set, mesh)
    validation_data = None if setup.validation_set is None else place(setup.validation_set, mesh)
    size, batch_size, step = len(setup.train_set), config.train.batch_size, int(state.step)
    try:
        while epochs_done < config.train.epochs:
            first = step - epochs_done * setup.steps_per_epoch
            for indices in epoch_batches(size, batch_size, config.seed, epochs_done, first):
                state, metrics = train_step(state, data, indices)
                step += 1
                track.step(step, metrics)
                interrupt.check()
                if step % setup.steps_per_epoch and checkpoints.due(step):
                    track.flush()
                    checkpoints.save(state, epochs_done)
            track.flush()
            scores: dict[str, float] = {}
            if validation_data is not None:
                scores = evaluate(
                    eval_step, state.eval_variables, validation_data, config.train.eval_batch_size, mesh, interrupt.check
                )
            epochs_done += 1
            track.epoch(epochs_done, step, means(state.metrics), scores)
            checkpoints.save(state, epochs_done, scores)
            interrupt.check()
    except StopRequested as stop:
        track.flush()
        checkpoints.save(state, epochs_done)
        checkpoints.wait()
        raise Preempted(
            f"{stop}: saved at step {step} in {checkpoints.directory.parent}; run the same command to go on"
        ) from None
    return state
