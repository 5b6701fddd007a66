"""Disks that fill up, and disks that are read-only: tmpfs mounts, which `test_disks.py` allows these tests."""

import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from signal import SIGCONT, SIGSTOP

import pytest

from cifar_flax.files.checksum import read_checksummed
from cifar_flax.training.records import read_records
from tests.faults.scene import finish

SIZE = 32 << 20  # bytes of a disk
RECORDS = 12  # after which a disk fills up, once there is a checkpoint


@pytest.fixture
def mounted(scene):
    """A context manager that mounts a disk of a given size."""

    @contextmanager
    def mount(size=SIZE):
        folder = scene.fresh("disk")
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    return mount


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def fill(disk, left):
    """Fills a disk up to `left` bytes."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        with suppress(OSError):  # no space left
            while True:
                file.write(bytes(4096))
        file.truncate(max(file.tell() - left, 0))


def free(disk):
    (disk / "ballast").unlink()


def checkpoints(workdir):
    return [path for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()]


def test_full_under_the_cache(scene, mounted):
    with mounted(16 << 10) as cache:
        workdir = scene.fresh("run")
        scene.run("train", workdir, cache).assert_stopped()
        remount(cache, f"size={SIZE}")
        scene.assert_resumes_exactly(workdir, cache)


@pytest.mark.thorough
def test_full_at_the_start(scene, mounted):
    with mounted() as disk:
        fill(disk, 0)
        scene.run("train", disk / "run", scene.undisturbed.cache).assert_stopped()
        free(disk)
        scene.assert_resumes_exactly(disk / "run", scene.undisturbed.cache)


RECORDS_AND_TENSORBOARD = pytest.param(0, 1000, marks=pytest.mark.thorough, id="records and TensorBoard")


@pytest.mark.parametrize(("left", "every_steps"), [pytest.param(48 << 10, 5, id="checkpoints"), RECORDS_AND_TENSORBOARD])
def test_full_while_training(scene, mounted, left, every_steps):
    with mounted() as disk:
        workdir, cache = disk / "run", scene.undisturbed.cache
        process = scene.start("train", workdir, cache, f"--config.checkpoint.every_steps={every_steps}")
        while process.poll() is None:
            process.send_signal(SIGSTOP)
            if checkpoints(workdir) and len(read_records(workdir)) >= RECORDS:
                fill(disk, left)
                process.send_signal(SIGCONT)
                break
            process.send_signal(SIGCONT)
            time.sleep(0.01)
        finish(process).assert_stopped()
        assert checkpoints(workdir)
        free(disk)
        scene.assert_resumes_exactly(workdir, cache)


@pytest.mark.parametrize("left", [pytest.param(left, marks=pytest.mark.thorough) for left in (0, 512 << 10)] + [64 << 10])
def test_full_under_a_report(scene, mounted, left):
    with mounted() as disk:
        workdir = scene.undisturbed.copy(disk / "run")
        shutil.rmtree(workdir / "report")
        fill(disk, left)
        scene.run("evaluate", workdir, scene.undisturbed.cache).assert_stopped()
        free(disk)
        scene.assert_evaluates_exactly(workdir)


def test_read_only_run_directory(scene, mounted):
    with mounted() as disk:
        workdir = scene.undisturbed.copy(disk / "run")
        remount(disk, "ro")
        for verb in ("train", "evaluate"):
            scene.run(verb, workdir, scene.undisturbed.cache).assert_stopped()
        output = scene.fresh("report")
        done = finish(scene.start("evaluate", workdir, scene.undisturbed.cache, f"--output={output}"))
        assert done.code == 0, done.errors
        assert read_checksummed(output / "test.json") == scene.undisturbed.scores
        remount(disk, "rw")
        scene.assert_resumes_exactly(workdir, scene.undisturbed.cache)
        scene.assert_evaluates_exactly(workdir)


@pytest.mark.thorough
def test_read_only_cache_without_and_with_the_data(scene, mounted):
    with mounted() as cache:
        workdir = scene.fresh("run")
        remount(cache, "ro")
        scene.run("train", workdir, cache).assert_stopped()
        remount(cache, "rw")
        scene.assert_resumes_exactly(workdir, cache)
        remount(cache, "ro")
        scene.assert_resumes_exactly(scene.fresh("run"), cache)
