"""Small disks that fill up, and disks that may be read only: tmpfs mounts in a namespace of this process' own."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from benchmarks.injections.scene import Done, Outcome, Result, Scene, finish
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.training.records import read_records

SIZE = 32 << 20  # bytes of a disk
TRIGGER = 12  # records after which a disk fills up, once a checkpoint is there
INSIDE = "CIFAR_FLAX_MAY_MOUNT"


def enter_namespace() -> None:
    """Starts this program anew where it may mount, which takes no root; the mounts vanish with it.

    Raises:
      UserError: this kernel, or a container around us, does not allow that.
    """
    if os.environ.get(INSIDE):
        return
    wrapper = ["unshare", "--map-root-user", "--mount"]
    try:
        subprocess.run([*wrapper, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as e:
        reason = e.stderr.decode().strip() if isinstance(e, subprocess.CalledProcessError) else e
        raise UserError(f"nothing can be mounted here ({reason}); leave out disks: --parts=kills,clock,damage,long") from None
    os.environ[INSIDE] = "1"
    sys.stdout.flush()
    os.execvp(wrapper[0], [*wrapper, sys.executable, *sys.argv])


def full_disks(scene: Scene) -> Iterator[Result]:
    """Disks that fill up under the cache, at the start, while training and while a report is written."""
    with _disk(scene, "small", 16 << 10) as cache:
        workdir = scene.fresh("run")
        stop = scene.run("train", workdir, cache)
        _mount(cache, f"remount,size={SIZE}")
        yield scene.again("full disk while it writes the cache", workdir, cache, stop)
    with _disk(scene, "full") as disk:
        workdir = disk / "run"
        _fill(disk, 0)
        stop = scene.run("train", workdir, scene.undisturbed.cache)
        _free(disk)
        yield scene.again("full disk at the start", workdir, scene.undisturbed.cache, stop)
    for what, left, every_steps in (("checkpoints", 48 << 10, 5), ("records and TensorBoard", 0, 1000)):
        with _disk(scene, "full") as disk:
            workdir = disk / "run"
            stop = _train_until_full(scene, disk, left, f"--config.checkpoint.every_steps={every_steps}")
            intact = _checkpoints(workdir)
            _free(disk)
            result = scene.again(f"full disk while it writes {what}", workdir, scene.undisturbed.cache, stop)
            yield result if intact else result._replace(outcome=Outcome.FAILED, detail="no checkpoint survived")
    for left in (0, 64 << 10, 512 << 10):
        yield _full_report(scene, left)


def read_only_disks(scene: Scene) -> Iterator[Result]:
    """Run directories and caches that may only be read: by train, by evaluate, and a cache that holds the data or does not."""
    calm = scene.undisturbed
    with _disk(scene, "read-only") as disk:
        workdir = calm.copy(disk / "run")
        _mount(disk, "remount,ro")
        train, evaluate = (scene.run(verb, workdir, calm.cache) for verb in ("train", "evaluate"))
        _mount(disk, "remount,rw")
        yield scene.again("read-only run directory: train", workdir, calm.cache, train)
        yield _evaluated_again(scene, "read-only run directory: evaluate", workdir, evaluate)
    with _disk(scene, "read-only") as cache:
        workdir = scene.fresh("run")
        _mount(cache, "remount,ro")
        stop = scene.run("train", workdir, cache)
        _mount(cache, "remount,rw")
        yield scene.again("read-only cache without the data", workdir, cache, stop)
        _mount(cache, "remount,ro")
        yield scene.again("read-only cache with the data", scene.fresh("run"), cache)


def _full_report(scene: Scene, left: int) -> Result:
    name = "full disk while it writes a report"
    with _disk(scene, "full") as disk:
        workdir = scene.undisturbed.copy(disk / "run")
        shutil.rmtree(workdir / "report")
        _fill(disk, left)
        stop = scene.run("evaluate", workdir, scene.undisturbed.cache)
        _free(disk)
        return _evaluated_again(scene, name, workdir, stop)


def _evaluated_again(scene: Scene, name: str, workdir: Path, stop: Done) -> Result:
    """Evaluates where the fault is gone, and judges both."""
    if stop.code == 0 or stop.fault:
        return Result(name, Outcome.FAILED, stop.fault or "the fault went unnoticed")
    done = scene.run("evaluate", workdir, scene.undisturbed.cache)
    if done.code or read_checksummed(workdir / "report" / "test.json") != scene.undisturbed.scores:
        return Result(name, Outcome.FAILED, f"does not go on: {done.errors.strip()[-500:]}")
    return Result(name, Outcome.STOPPED, stop.errors.strip())


def _train_until_full(scene: Scene, disk: Path, left: int, *flags: str) -> Done:
    """Trains on a disk that has `left` bytes from the moment on that a checkpoint is there."""
    workdir = disk / "run"
    process = scene.start("train", workdir, scene.undisturbed.cache, *flags)
    while process.poll() is None:
        process.send_signal(SIGSTOP)
        if _checkpoints(workdir) and len(read_records(workdir)) >= TRIGGER:
            _fill(disk, left)
            process.send_signal(SIGCONT)
            break
        process.send_signal(SIGCONT)
        time.sleep(0.01)
    return finish(process)


def _checkpoints(workdir: Path) -> list[Path]:
    return [path for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()]


@contextmanager
def _disk(scene: Scene, name: str, size: int = SIZE) -> Iterator[Path]:
    folder = scene.fresh(name)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", options, str(folder)], check=True)


def _fill(disk: Path, left: int) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
        file.truncate(max(file.tell() - left, 0))


def _free(disk: Path) -> None:
    (disk / "ballast").unlink()
