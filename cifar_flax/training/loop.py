"""The training loop, from a config to run directories."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import jax

from cifar_flax.config import Config
from cifar_flax.errors import RERUN_HINT, ConfigError, Preempted
from cifar_flax.runtime.arithmetic import standard_arithmetic
from cifar_flax.runtime.multihost import (
    StopConsensus,
    broadcast_from_main,
    check_same_on_all_hosts,
    raise_on_all_hosts,
    run_on_main_process,
)
from cifar_flax.runtime.preemption import Interrupt, StopRequested
from cifar_flax.training.checkpoints.files import saved_steps
from cifar_flax.training.checkpoints.path import checkpoint_folder
from cifar_flax.training.checks import shared_data, shared_inputs
from cifar_flax.training.profiling import Profiler
from cifar_flax.training.run_dir import check_unlocked, move_aside, with_recorded_dtype
from cifar_flax.training.runs import Runs
from cifar_flax.training.state import TrainState
from cifar_flax.training.trainer import Scores, Trainer

AfterEpoch = Callable[[int, Scores, bool], None]


@standard_arithmetic()
def train(
    config: Config,
    workdir: str | Path,
    restart: bool = False,
    after_epoch: AfterEpoch | None = None,
    profile: bool = False,
    max_minutes: float | None = None,
    layers: bool = False,
    check_data: Callable[[Mapping[str, str]], None] = lambda hashes: None,
) -> TrainState:
    """Trains `config` in `workdir`, resuming from its latest checkpoint, and returns the final state.

    Several processes that are connected by `runtime.distributed` train together, on the devices of all; all of them see the
    workdir.

    Args:
      config: a checked config, of one seed.
      workdir: the run directory, made where it is not there.
      restart: moves the run that is there aside and begins again.
      after_epoch: called with the number of each epoch that ends, counted from 1, its validation scores, empty where there is
        no validation set, and whether training is over. An exception in it ends the run, with everything saved. Not called
        again for epochs completed before a resume.
      profile: records a trace of a few steps.
      max_minutes: after which it saves and ends as after SIGTERM.
      layers: prints the table of layers, in place of a line on the network.
      check_data: called with the SHA-256 of each array of the training split, before anything is written; an exception in it
        ends the run.

    Raises:
      UserError: the config cannot be trained as it stands, the data are missing, or the workdir belongs to another run.
      RunFailed: the loss is not finite, or a checkpoint cannot be written. The last good checkpoint stays.
      Preempted: SIGTERM or SIGINT came, or the time was over; everything is saved.
    """
    workdir = Path(workdir)
    checkpoint_folder(workdir)
    if config.train.num_seeds > 1:
        raise ConfigError(
            f"config.train.num_seeds: {config.train.num_seeds} seeds are as many runs, and one is trained here; set it to 1, "
            "or call training.seeds.train_seeds"
        )
    check_same_on_all_hosts(shared_inputs(config, restart))  # before exchanges that depend on it
    with Interrupt(max_minutes) as interrupt:
        config = with_recorded_dtype(config, workdir, restart)
        trainer = make_trainer(config)
        raise_on_all_hosts(lambda: check_data(trainer.preprocessing.hashes))
        return fit(trainer, [workdir], interrupt, restart, after_epoch, profile, layers)


def make_trainer(config: Config, seeds: tuple[int, ...] = ()) -> Trainer:
    """A trainer in each process, of the same data; arguments and errors as `Trainer.from_config`.

    Raises:
      UserError: also where the processes have other images, or would keep them elsewhere.
    """
    trainer = raise_on_all_hosts(lambda: Trainer.from_config(config, seeds))
    streamed = raise_on_all_hosts(lambda: trainer.streamed)
    check_same_on_all_hosts(shared_data(trainer.preprocessing, streamed, trainer.teacher))
    return trainer


def fit(
    trainer: Trainer,
    workdirs: Sequence[Path],
    interrupt: Interrupt,
    restart: bool = False,
    after_epoch: AfterEpoch | None = None,
    profile: bool = False,
    layers: bool = False,
    others: Sequence[Path] = (),
) -> TrainState:
    """Trains until the epochs are over, resuming from the latest checkpoint. Several run directories are several seeds.

    Args:
      trainer: with as many seeds as there are workdirs.
      workdirs: the run directories.
      interrupt: entered; asks to stop.
      restart: as in `train`.
      after_epoch: as in `train`; it is given the scores of the first seed.
      profile: as in `train`; the trace is written to the directory of the first seed.
      layers: as in `train`.
      others: run directories of seeds that are trained later; `restart` moves their runs aside too.
    Returns:
      The final state, of all seeds.
    Raises:
      UserError, RunFailed, Preempted: as `train`.
    """
    # Before the folder is made: what fails here leaves nothing behind.
    fresh = broadcast_from_main(restart or not any(map(saved_steps, workdirs)))
    # Several hosts stop together, between steps.
    check = interrupt.check if jax.process_count() == 1 else lambda: None
    initial = _initialize(trainer, check) if fresh else None
    consensus = StopConsensus()
    if restart:
        _begin_again(interrupt, [*workdirs, *others])
    with Runs(trainer, workdirs) as runs, Profiler(workdirs[0] if profile else None, trainer.program_text) as profiler:
        if initial is not None:
            trainer.compile_ahead(0)  # while records and trackers are opened
        state, step = runs.restore(initial, layers)
        del initial  # or its buffers would stay for the whole training
        trainer.compile_ahead(step)
        try:
            while not runs.done:
                for chunk, batches in runs.chunks(step):
                    state, metrics = profiler.call(chunk, partial(trainer.step, state, chunk, batches, check))
                    step = chunk.end
                    runs.log_steps(chunk, metrics)
                    save = consensus(step, state, interrupt, runs.save_due_by_time(), runs.timer.steps_per_second)
                    if not trainer.plan.ends_epoch(step) and (save or trainer.plan.save_due_by_step(chunk)):
                        runs.save(step, state)
                runs.flush()
                state = runs.end_epoch(step, state, scores := _evaluate(trainer, state, interrupt, runs.training))
                if after_epoch is not None:
                    after_epoch(runs.epochs_done, scores[0].get("validation", {}), runs.done)
                if not runs.done:  # a run that has ended is not stopped
                    consensus(step, state, interrupt, False, runs.timer.steps_per_second, now=True)
        except StopRequested as stop:
            raise _saved(stop, runs, step, state) from None
        runs.finish(step, interrupt)
    return state


def _evaluate(trainer: Trainer, state: TrainState, interrupt: Interrupt, training: Sequence[bool]) -> list[dict[str, Scores]]:
    """The scores of each seed that still trains. One host stops between batches; several stop together, after the last one."""
    if jax.process_count() == 1:
        return trainer.evaluate(state, interrupt.check, training)
    with interrupt.defer_stop():
        return trainer.evaluate(state, wanted=training)


def _begin_again(interrupt: Interrupt, workdirs: Sequence[Path]) -> None:
    """Moves the runs that are there aside, all or none, and takes note of it as soon as one of them is."""
    run_on_main_process(lambda: check_unlocked(workdirs))
    for workdir in workdirs:
        run_on_main_process(partial(move_aside, workdir))
        interrupt.begun_again = True


def _saved(stop: StopRequested, runs: Runs, step: int, state: TrainState) -> Preempted:
    """Saves, and returns what to say of it."""
    runs.save(step, state)
    runs.wait()
    return Preempted(f"{stop}: {runs.saved_at(step)}; {RERUN_HINT}")


def _initialize(trainer: Trainer, check: Callable[[], None]) -> list[TrainState]:
    try:
        return trainer.initialize(check)
    except StopRequested as stop:
        raise Preempted(f"{stop}: there is nothing to save yet; {RERUN_HINT}") from None
