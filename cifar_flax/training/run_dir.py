"""The folder of a run: made, locked, and checked against the config that it was begun with."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from absl import logging

from cifar_flax.config import Config, Dtype
from cifar_flax.config.recipe import RESUMABLE
from cifar_flax.config.serialize import differences, from_dict, read_config, write_config
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.sources.folders import PREFIX as FOLDER
from cifar_flax.errors import UserError, WorkdirLocked
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.files.layout import is_exported
from cifar_flax.files.lock import exclusive_lock
from cifar_flax.optim.schedules import needs_horizon
from cifar_flax.runtime.devices import fastest_dtype
from cifar_flax.runtime.multihost import broadcast_from_main, raise_on_all_hosts
from cifar_flax.training.checkpoints.files import DAMAGED, saved_steps
from cifar_flax.training.chunks import EPOCH_DIGITS
from cifar_flax.training.records import read_epochs
from cifar_flax.training.run_environment import write_environment
from cifar_flax.training.seed_folders import SEED, SUMMARY

WRITTEN = ("checkpoints", "tensorboard", "trackers", "wandb", "mlflow")  # folders of a run
RESTART_HINT = "choose another --workdir, or --restart to begin again and keep the old run beside"


def open_run_dir(workdir: Path, config: Config, preprocessing: Preprocessing, total_steps: int | None = None) -> TextIO:
    """Makes `workdir` ready for training `config`: a new run, or one that goes on.

    Args:
      workdir: made if it is not there.
      config: written to config.json.
      preprocessing: written to dataset.json.
      total_steps: updates of the whole training, than which the run there may not have made more; None: as many as it likes.

    A run that ended before it had trained, by too little memory, say, leaves its folder to another config.

    Returns:
      The open lock file; the folder is this process' until it is closed.

    Raises:
      WorkdirLocked: another process trains there.
      UserError: the run that is there has another config or other data, nothing says which config it has, its checkpoints lie
        behind a link, or a run and a folder of seeds would be one.
    """
    _refuse_mixture(workdir)
    _recorded_config(workdir)  # what is no run is refused before there is a lock in it
    workdir.mkdir(parents=True, exist_ok=True)
    lock = _lock(workdir)
    try:
        _refuse_links(workdir)
        preprocessing = _going_on(workdir, config, preprocessing, total_steps)
        write_config(config, workdir / "config.json")
        preprocessing.write(workdir / "dataset.json")
        write_environment(workdir / "environment.json", config)
    except BaseException:  # or a notebook that catches it could not try again
        lock.close()
        raise
    return lock


def move_aside(workdir: Path) -> None:
    """Moves the run or the seeds in `workdir`, where there are any, to `workdir.1`, `.2` and so on, and leaves an empty folder.

    Of a seed whose folder lies in a run, it is that run's folder which is moved.

    Raises:
      WorkdirLocked: another process trains there.
      UserError: it is the folder that this process is in, or that of an exported network.
    """
    _refuse_exported(workdir)
    if _lies_in_run(workdir):
        workdir = workdir.parent
    seeds = _seeds_in(workdir)
    if _holds_run(workdir) or seeds or (workdir / SUMMARY).exists():
        with contextlib.ExitStack() as locks:
            for folder in (workdir, *seeds):
                locks.enter_context(_lock(folder))
            _move_aside(workdir)
        if SEED.fullmatch(workdir.name):
            (workdir.parent / SUMMARY).unlink(missing_ok=True)  # or readers would choose among the new runs by the old scores


def check_unlocked(workdirs: Sequence[Path]) -> None:
    """Raises WorkdirLocked where another process trains in one of the folders, which need not be there."""
    for workdir in workdirs:
        if (workdir / ".lock").exists():
            _lock(workdir).close()


def in_use(workdir: Path) -> bool:
    """Whether a process trains in `workdir`, which need not be there."""
    try:
        check_unlocked([workdir])
    except WorkdirLocked:
        return True
    return False


def with_recorded_dtype(config: Config, workdir: Path, restart: bool, siblings: Sequence[Path] = ()) -> Config:
    """`config` with `auto` as the compute dtype replaced: by that of the run in `workdir`, else by the fastest here.

    A run keeps the dtype that it began with, wherever it goes on, and one that begins takes that of `siblings`, its other
    seeds, where one has trained; on several hosts that of the first counts.

    Raises:
      UserError: a run's config.json is damaged, or nothing says which config it has.
    """
    if config.train.dtype is not Dtype.AUTO:
        return config

    def recorded() -> Config | None:
        return next((_recorded_config(folder) for folder in (workdir, *siblings) if _has_trained(folder)), None)

    begun_with = None if restart else raise_on_all_hosts(recorded)
    dtype = fastest_dtype() if begun_with is None else begun_with.train.dtype
    bfloat16 = broadcast_from_main(dtype is Dtype.BFLOAT16)
    if bfloat16 and fastest_dtype() is not Dtype.BFLOAT16:
        logging.warning("%s: in bfloat16, as it or another seed began; this machine would be faster in float32", workdir)
    return replace(config, train=replace(config.train, dtype=Dtype.BFLOAT16 if bfloat16 else Dtype.FLOAT32))


def may_differ(path: str, saved: Config) -> bool:
    """Whether a run with this config may go on with another value of a field: it leaves the sequence of updates as it is."""
    if path == "config.train.epochs":  # its last epoch, if cut off, is recorded as one that is over
        whole = round(float(saved.train.epochs), EPOCH_DIGITS).is_integer()
        return whole and not (needs_horizon(saved.optim.schedule) or saved.train.resolutions)
    return path.startswith(RESUMABLE)


def _holds_run(workdir: Path) -> bool:
    return (workdir / "config.json").exists() or bool(saved_steps(workdir))


def _has_trained(workdir: Path) -> bool:
    """Whether a run got as far as a checkpoint or an epoch, lost or not: else its folder holds nothing that took time."""
    if saved_steps(workdir) or (workdir / DAMAGED).exists():
        return True
    return bool(read_epochs(workdir))


def _seeds_in(workdir: Path) -> list[Path]:
    """The run directories of seeds in it."""
    return [folder for folder in workdir.glob("seed*") if SEED.fullmatch(folder.name) and _holds_run(folder)]


def _lies_in_run(workdir: Path) -> bool:
    """Whether it is the folder of a seed, in a folder that holds a run of its own."""
    return SEED.fullmatch(workdir.name) is not None and _holds_run(workdir.parent)


def _refuse_mixture(workdir: Path) -> None:
    """Refuses a run and a folder of seeds in one: what reads it would take the one or the other."""
    if (workdir / SUMMARY).exists() or _seeds_in(workdir):
        raise UserError(f"{workdir} holds a run for each of several seeds, and cannot hold one of its own too; {RESTART_HINT}")
    if _lies_in_run(workdir):
        raise UserError(f"{workdir.parent} holds a run, and cannot hold those of several seeds too; {RESTART_HINT}")


def _refuse_links(workdir: Path) -> None:
    """Refuses links in place of what Orbax and the writers of metrics write and delete."""
    for path in (*(workdir / name for name in WRITTEN), *(workdir / "checkpoints").glob("*")):
        if path.is_symlink():
            raise UserError(f"{path}: a link, through which no run is written; put the folder itself there")


def _move_aside(workdir: Path) -> None:
    """Renames the folder itself, where `workdir` is a link to it."""
    folder = workdir.resolve()
    if Path.cwd().is_relative_to(folder):
        raise UserError(
            f"--restart: {workdir} is the folder that you are in, and would be renamed; run the command from another"
        )
    aside = next(path for i in range(1, 10**6) if not os.path.lexists(path := folder.with_name(f"{folder.name}.{i}")))
    folder.rename(aside)
    folder.mkdir()
    print(f"the run that was there is now {aside}", flush=True)


def _refuse_exported(workdir: Path) -> None:
    if is_exported(workdir) and (workdir / "config.json").exists():
        try:
            read_config(workdir / "config.json")
        except UserError:
            raise UserError(f"{workdir} holds an exported network, not a run; choose another --workdir") from None


def _going_on(workdir: Path, config: Config, preprocessing: Preprocessing, total_steps: int | None) -> Preprocessing:
    """Checks that the run in a locked folder is that of `config`, if it has trained; returns what to record of its data.

    Of a run of another config that has not, what it said of itself is removed: its environment, its teacher, and under which
    names experiment trackers know it.
    """
    begun_with = _recorded_config(workdir)
    if not _has_trained(workdir):
        if begun_with is not None and differences(begun_with, config):
            for name in ("environment.json", "teacher.json"):
                (workdir / name).unlink(missing_ok=True)
            if (workdir / "trackers").exists():
                shutil.rmtree(workdir / "trackers")
        return preprocessing
    if begun_with is not None:
        _check_same(begun_with, config, workdir, total_steps)
    return with_recorded_data(preprocessing, config, workdir) if (workdir / "dataset.json").exists() else preprocessing


def _recorded_config(workdir: Path) -> Config | None:
    """The config that the run in `workdir` has: where config.json was removed, the copy in environment.json.

    None where there is neither config.json nor a checkpoint.
    """
    _refuse_exported(workdir)
    if (workdir / "config.json").exists():
        return read_config(workdir / "config.json")
    if not saved_steps(workdir):
        return None
    try:
        return from_dict(read_checksummed(workdir / "environment.json")["config"])
    except (FileNotFoundError, ValueError, LookupError, UserError):
        raise UserError(
            f"{workdir}: config.json is missing, and so is its copy in environment.json: nothing says which config the "
            f"checkpoints there are of; put config.json back, {RESTART_HINT}"
        ) from None


def _check_same(saved: Config, config: Config, workdir: Path, total_steps: int | None) -> None:
    changed = {path: values for path, values in differences(saved, config).items() if not may_differ(path, saved)}
    if all(str(name).startswith(FOLDER) for name in changed.get("config.data.name", [""])):
        del changed["config.data.name"]  # a folder may have been moved; whether it is the same, its hashes tell
    if changed:
        lines = "\n".join(f"  {path}: {old!r} there, {new!r} now" for path, (old, new) in changed.items())
        longer = ""
        if set(changed) == {"config.train.epochs"}:  # which its schedule, its growing images or a part of an epoch depend on
            longer = f"\n  to train on from its weights: --config.train.init_from={workdir} with another --workdir"
        raise UserError(f"{workdir} holds a run with another config; {RESTART_HINT}\n{lines}{longer}")
    if total_steps is not None and (trained := max(saved_steps(workdir), default=0)) > total_steps:
        raise UserError(
            f"config.train.epochs: {config.train.epochs:g} are {total_steps} updates, and {workdir} has made {trained}; "
            f"{RESTART_HINT}"
        )


def with_recorded_data(now: Preprocessing, config: Config, workdir: Path) -> Preprocessing:
    """The data to record of a run that goes on, with the test images that were there when it began.

    Raises:
      UserError: the training images or the classes are others than when the run in `workdir` began.
    """
    saved = Preprocessing.read(workdir / "dataset.json")
    if (saved.hashes, saved.class_names, saved.coarse_names) != (now.hashes, now.class_names, now.coarse_names):
        raise UserError(f"{config.data.name} is not what it was when the run in {workdir} began; {RESTART_HINT}")
    return replace(now, test_hashes=saved.test_hashes)


def _lock(workdir: Path) -> TextIO:
    try:
        return exclusive_lock(workdir / ".lock", wait=False)
    except BlockingIOError:
        raise WorkdirLocked(f"another process is training in {workdir}; choose another --workdir or wait for it") from None
