"""A process per framework, since they conflict within one; driven in turns, so that one computes at a time."""

import importlib
import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from benchmarks.timing import time_steps
from cifar_flax.errors import CifarFlaxError, RunFailed

# All frameworks run on the CPU and print little.
ON_CPU = {
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Worker:
    """A module of `benchmarks` in a process of its own, which keeps the steps that it builds; `settings` is its environment."""

    def __init__(self, module: str, settings: Mapping[str, str] = ON_CPU) -> None:
        context = multiprocessing.get_context("spawn")
        self._module = module
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, module))
        os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # like launch/train.py, for each framework
        self._start(settings)
        theirs.close()

    def _start(self, settings: Mapping[str, str]) -> None:
        """With the settings in place from the first import on: a spawned process begins with those of the main module."""
        before = dict(os.environ)
        os.environ.update(settings)
        try:
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def call(self, function: str, *arguments: Any) -> Any:
        """Calls a function of the module, or `build`, `time_step` or `versions`, in the process and returns its result.

        Raises:
          CifarFlaxError: the function raised it.
          RuntimeError: the function raised anything else; its traceback is in the message.
          RunFailed: the process is gone.
        """
        try:
            self._pipe.send((function, arguments))
            done, value = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise RunFailed(
                f"{self._module}: the process ended with {self._process.exitcode}; out of memory? Try a smaller batch"
            ) from None
        if done:
            return value
        raise value

    def build(self, workload: Any, *arguments: Any) -> tuple[list[str], list[str]]:
        """Has the module build its `steps(workload, *arguments)`, replacing earlier ones; returns their names, and remarks."""
        return self.call("build", workload, *arguments)

    def versions(self, packages: tuple[str, ...]) -> dict[str, str]:
        """Returns the versions of packages in the process."""
        return self.call("versions", packages)

    def time_step(self, name: str, steps: int) -> float:
        """Measures seconds per step, in the process."""
        return self.call("time_step", name, steps)

    def terminate(self) -> None:
        """Ends the process, whatever it does."""
        self._process.terminate()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pipe.close()
        if error is not None:
            self.terminate()
        self._process.join()


def _serve(pipe: Connection, name: str) -> None:
    built: dict[str, Callable[[], object]] = {}

    def build(*arguments: Any) -> tuple[list[str], list[str]]:
        built.clear()
        steps, remarks = module.steps(*arguments)
        built.update(steps)
        return list(steps), remarks

    common: dict[str, Callable[..., Any]] = {
        "build": build,
        "time_step": lambda name, steps: time_steps(built[name], steps),
        "versions": lambda packages: {package: str(importlib.import_module(package).__version__) for package in packages},
    }
    try:
        module = importlib.import_module(f"benchmarks.{name}")
        while True:
            function, arguments = pipe.recv()
            try:
                pipe.send((True, (common.get(function) or getattr(module, function))(*arguments)))
            except CifarFlaxError as e:
                pipe.send((False, e))
            except Exception:  # of any library, and perhaps not picklable
                pipe.send((False, RuntimeError(f"in the process of {name}:\n{traceback.format_exc()}")))
    except (EOFError, ConnectionError, KeyboardInterrupt):
        pass  # the parent has closed the pipe
