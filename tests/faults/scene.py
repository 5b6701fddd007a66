"""A small training to disturb: its pictures, the commands of `launch/`, and an undisturbed run to compare with."""

import os
import shutil
import subprocess
import sys
import time
from functools import cached_property
from itertools import count
from typing import NamedTuple

import jax
from PIL import Image

from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import to_dict, validated
from cifar_flax.files.checksum import read_checksummed, sha256_of_arrays
from cifar_flax.run import Run
from tests.conftest import ROOT, TINY_CONFIG, tiny_split
from tests.helpers import forked
from tests.helpers.runs import records_without_times

EPOCHS = 4  # of 9 steps each
TIMEOUT = 600  # seconds after which a command hangs; the longest takes ten on an idle machine


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    errors: str
    seconds: float

    def assert_stopped(self):
        """It ended with one line on stderr and an exit code that stands for that."""
        assert (self.code in (1, 2, 75), len(self.errors.strip().splitlines())) == (True, 1), (self.code, self.errors[-2000:])


class Scene:
    """A folder with the pictures and the runs."""

    def __init__(self, folder):
        self.folder, self._numbers = folder, count()
        self.pictures = folder / "pictures"
        for seed, (split, images) in enumerate((("train", 320), ("test", 100))):
            data = tiny_split(images, seed)
            for i, (pixels, label) in enumerate(zip(data.images, data.labels, strict=True)):
                path = self.pictures / split / data.class_names[label] / f"{i:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)

    def fresh(self, name):
        """A path that nothing has used."""
        return self.folder / f"{next(self._numbers):04d}-{name}"

    def config(self, epochs=EPOCHS):
        """The config of the training, for this process."""
        config = load_config(str(TINY_CONFIG))
        config.data.name, config.data.image_size, config.train.epochs = f"folder:{self.pictures}", 8, epochs
        return validated(config)

    def start(self, verb, workdir, cache, *flags, **environment):
        """Starts `launch/VERB.py`, train or evaluate, on a run directory; with an environment, a Python of its own."""
        if verb == "train":
            data = (f"--config.data.name=folder:{self.pictures}", "--config.data.image_size=8")
            flags = (f"--config={TINY_CONFIG}", f"--workdir={workdir}", *data, f"--config.train.epochs={EPOCHS}", *flags)
        else:
            flags = (f"--run={workdir}", *flags)
        command = [str(ROOT / "launch" / f"{verb}.py"), *flags]
        variables = {**os.environ, "CIFAR_FLAX_CACHE": str(cache), **environment}
        if not environment:
            return forked.Popen(command, env=variables)
        closed = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, *command], env=variables, **closed, stderr=subprocess.PIPE, text=True)

    def run(self, verb, workdir, cache, **environment):
        """Runs `launch/VERB.py` to its end."""
        return finish(self.start(verb, workdir, cache, **environment))

    @cached_property
    def undisturbed(self):
        """The run to compare with, trained and evaluated."""
        workdir, cache = self.fresh("undisturbed"), self.fresh("cache")
        for verb in ("train", "evaluate"):
            self._run_undisturbed(verb, workdir, cache)
        return Undisturbed(workdir, cache)

    @cached_property
    def seconds(self):
        """Duration of an undisturbed train and evaluate, with compiled programs and an empty data cache."""
        assert self.undisturbed  # which compiles
        workdir, cache = self.fresh("timed"), self.fresh("cache")
        return {verb: self._run_undisturbed(verb, workdir, cache).seconds for verb in ("train", "evaluate")}

    def _run_undisturbed(self, verb, workdir, cache):
        done = self.run(verb, workdir, cache)
        assert done.code == 0, done.errors
        return done

    def assert_resumes_exactly(self, workdir, cache):
        """The same command, undisturbed, ends bitwise like the undisturbed run."""
        done = self.run("train", workdir, cache)
        assert done.code == 0, done.errors[-2000:]
        expected = self.undisturbed.content
        for part, value in content(workdir).items():
            assert value == expected[part], f"{part} differs"

    def assert_evaluates_exactly(self, workdir):
        """The evaluation, undisturbed, has the scores of the undisturbed run."""
        done = finish(self.start("evaluate", workdir, self.undisturbed.cache, "--noreport"))
        assert done.code == 0, done.errors[-2000:]
        assert read_checksummed(workdir / "report" / "test.json") == self.undisturbed.scores


class Undisturbed:
    """A run that nothing disturbed."""

    def __init__(self, workdir, cache):
        self.workdir, self.cache, self.content = workdir, cache, content(workdir)
        self.scores = read_checksummed(workdir / "report" / "test.json")

    def copy(self, to):
        return shutil.copytree(self.workdir, to)


def finish(process):
    """Waits for a command to end; one that hangs is killed, with exit code -9."""
    start = time.monotonic()
    try:
        _, errors = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
        errors += f"\nhangs: killed after {TIMEOUT} s"
    return Done(process.returncode, errors, time.monotonic() - start)


def content(workdir):
    """A run without times, by part: steps and hashes of the latest and the best weights, config, preprocessing, records."""
    run = Run.open(workdir)

    def weights(which):
        leaves = jax.tree_util.tree_leaves_with_path(run.network(which).variables)
        return run.step(which), sha256_of_arrays({jax.tree_util.keystr(path): leaf for path, leaf in leaves})

    return {
        "latest": weights("latest"),
        "best": weights("best"),
        "config": to_dict(run.config),
        "preprocessing": run.preprocessing,
        "records": records_without_times(workdir),
    }
