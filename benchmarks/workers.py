"""A process per framework, since they conflict within one; driven in turns, so that one computes at a time."""

import importlib
import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from benchmarks.timing import time_steps
from cifar_flax.errors import CifarFlaxError, RunFailed

# All frameworks run on the CPU and print little.
SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Worker:
    """A module of `benchmarks` in a separate process, which keeps the steps that it has built."""

    def __init__(self, module: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._module = module
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, module))
        os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # like launch/train.py, for each framework
        self._process.start()
        theirs.close()

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

    def build(self, workload: Any) -> tuple[list[str], list[str]]:
        """Has the module build its steps for a workload, replacing earlier ones; returns their names, and remarks."""
        return self.call("build", workload)

    def versions(self, packages: tuple[str, ...]) -> dict[str, str]:
        """Returns the versions of packages in the process."""
        return self.call("versions", packages)

    def time_step(self, name: str, steps: int) -> float:
        """Measures seconds per step, in the process."""
        return self.call("time_step", name, steps)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pipe.close()
        if error is not None:
            self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, name: str) -> None:
    os.environ.update(SETTINGS)
    built: dict[str, Callable[[], object]] = {}

    def build(workload: Any) -> tuple[list[str], list[str]]:
        built.clear()
        steps, remarks = module.steps(workload)
        built.update(steps)
        return list(steps), remarks

    common: dict[str, Callable[..., Any]] = {
        "build": build,
        "time_step": lambda name, steps: time_steps(built[name], steps),
        "versions": lambda packages: {package: importlib.import_module(package).__version__ for package in packages},
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
