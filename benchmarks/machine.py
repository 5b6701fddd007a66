"""Commands of the checkout, run within a time."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cifar_flax.errors import RunFailed
from cifar_flax.training.records import read_epochs
from cifar_flax.training.seed_folders import seed_folders

ROOT = Path(__file__).parent.parent


class OutOfTime(Exception):
    """The minutes are over."""


def with_checkout(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the checkout on the path of Python."""
    path = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    return {**environment, "PYTHONPATH": path}


DESCRIBE = "from cifar_flax.training.run_environment import describe_environment; figures = describe_environment()"


def in_a_child(code: str) -> dict[str, Any]:
    """The `figures` that Python code makes, in a process of its own, which frees the device when it ends.

    Raises:
      RunFailed: it failed, as where JAX does not start.
    """
    command = [sys.executable, "-c", f"{code}\nimport json; print(json.dumps(figures))"]
    done = subprocess.run(command, cwd=ROOT, env=with_checkout(os.environ), check=False, capture_output=True, text=True)
    if done.returncode:
        raise RunFailed(f"JAX does not start: {done.stderr.strip().rpartition(chr(10))[2]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


class Machine:
    """Runs commands of the checkout within a time, with a cache of compiled programs of its own.

    Attributes:
      output: folder for runs.
      programs: the cache of compiled programs.
      data: name of the data set.
      dry: whether everything is tiny.
    """

    def __init__(self, output: Path, minutes: float, data: str, dry: bool) -> None:
        self.output, self.data, self.dry = output, data, dry
        self.programs = (output / "programs").absolute()
        self._deadline = time.monotonic() + 60 * minutes
        self._environment = with_checkout(os.environ) | {"CIFAR_FLAX_COMPILATION_CACHE": str(self.programs)}
        self._environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # which would be taken instead

    def seconds_left(self) -> float:
        """Raises OutOfTime if there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise OutOfTime
        return left

    def start(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Starts a script of the checkout; what it prints goes to OUTPUT/log.txt."""
        self.seconds_left()
        with (self.output / "log.txt").open("ab") as log:
            command = [sys.executable, script, *arguments]
            return subprocess.Popen(command, cwd=ROOT, env=self._environment | environment, stdout=log, stderr=log)

    def run(self, script: str, *arguments: str, **environment: str) -> float:
        """Runs a script to its end; its wall-clock seconds.

        Raises:
          RunFailed: it failed.
          OutOfTime: it did not end in time, and was killed.
        """
        begin = time.monotonic()
        process = self.start(script, *arguments, **environment)
        self.wait(process)
        self._check(process)
        return time.monotonic() - begin

    def _check(self, process: subprocess.Popen[bytes]) -> None:
        if process.returncode:
            assert isinstance(process.args, list)  # for the type checker
            command = " ".join(map(str, process.args[1:]))
            raise RunFailed(f"{command} ended with exit code {process.returncode}; see {self.output}/log.txt")

    def end_of_log(self, lines: int) -> list[str]:
        """The last lines that commands have printed, but for empty ones."""
        path = self.output / "log.txt"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return [line for line in text.splitlines() if line.strip()][-lines:]

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for a process; kills it when the time is over."""
        try:
            process.wait(self.seconds_left())
        except (subprocess.TimeoutExpired, OutOfTime, KeyboardInterrupt):
            process.kill()
            process.wait()
            self.seconds_left()
            raise

    def train(self, name: str, config: str, *arguments: str, **environment: str) -> dict[str, Any]:
        """Trains into OUTPUT/NAME, from the beginning; seconds as `train_on` gives them."""
        return self.train_on(name, config, *arguments, "--restart", **environment)

    def train_on(self, name: str, config: str, *arguments: str, **environment: str) -> dict[str, Any]:
        """Trains or goes on; seconds of the command, of training, and of the latter those that waited for programs.

        Under `epochs`, those of each epoch without waiting; under `cached`, whether programs were on disk.
        """
        workdir, cached = self.output / name, self.programs.exists() and any(self.programs.iterdir())
        seconds = self.run("launch/train.py", *self.config(config), *arguments, f"--workdir={workdir}", **environment)
        epochs = read_epochs(self.runs(workdir)[0])
        last, ends = epochs[-1], [0.0, *(record["elapsed"] - record["compilation"] for record in epochs)]
        return {
            "command": seconds,
            "training": last["elapsed"],
            "compilation": last["compilation"],
            "epochs": [end - begin for begin, end in itertools.pairwise(ends)],
            "cached": cached,
        }

    def config(self, name: str) -> tuple[str, ...]:
        """The flags of a config, or of the tiny one."""
        return ("--config=benchmarks/tiny.py",) if self.dry else (f"--config=configs/{name}", f"--config.data.name={self.data}")

    def runs(self, workdir: Path) -> list[Path]:
        """The run directories in a workdir: of one seed, itself."""
        return [workdir] if (workdir / "config.json").exists() else seed_folders(workdir)

    def test_top1(self, *names: str) -> list[float]:
        """Top-1 on test of the runs in OUTPUT/NAME, scored side by side."""
        folders = [folder for name in names for folder in self.runs(self.output / name)]
        with ExitStack() as stack:
            running = []
            for folder in folders:
                running.append(self.start("launch/evaluate.py", f"--run={folder}", "--split=test", "--noreport"))
                stack.callback(running[-1].kill)  # whatever ends the wait for another
            for process in running:
                self.wait(process)
                self._check(process)
        return [json.loads((folder / "report" / "test.json").read_text(encoding="utf-8"))["top1"] for folder in folders]
