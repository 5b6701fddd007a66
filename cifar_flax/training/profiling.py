"""A trace of a few training steps, for TensorBoard and Perfetto, and which layer each of its operations belongs to."""

import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import jax

from cifar_flax.files.atomic import write_text
from cifar_flax.runtime.multihost import is_main_process
from cifar_flax.training.chunks import Chunk

T = TypeVar("T")
OPERATIONS = "operations.tsv"  # beside the trace
INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = .*metadata=\{[^}]*op_name="([^"]*)"', re.MULTILINE)  # of XLA's HLO
SKIPPED, TRACED = 3, 5  # dispatches: the first ones compile


class Profiler:
    """Context that traces the fourth to eighth dispatch of this process into WORKDIR/tensorboard/plugins/profile.

    It says so in the end. A trace that is still open then, for whatever reason, is written with the steps it has. Beside it is
    OPERATIONS: a line for each operation of each program that was traced, with tabs between its name in the trace, what it
    computes, as jit(train_step)/ConvNet/block0/conv0/..., and the program, which is that of so many steps at so many pixels.
    """

    def __init__(self, workdir: Path | None, program_text: Callable[[Chunk], str] = lambda chunk: "") -> None:
        """Traces nothing where `workdir` is None; `program_text` gives the HLO of the program of a chunk."""
        self._workdir, self._calls, self._steps, self._tracing = workdir, 0, 0, False
        self._program_text, self._chunks = program_text, dict[str, Chunk]()

    def call(self, chunk: Chunk, step: Callable[[], T]) -> T:
        """Calls `step`, which dispatches a chunk, and waits for it where it is traced."""
        self._calls += 1
        if self._workdir is None or not SKIPPED < self._calls <= SKIPPED + TRACED:
            return step()
        if not self._tracing:
            jax.profiler.start_trace(str(self._workdir / "tensorboard"), create_perfetto_trace=True)
            self._tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=chunk.first):
            result = jax.block_until_ready(step())
        self._steps += chunk.length
        self._chunks[f"{chunk.length} steps, {chunk.image_size or 'all'} pixels"] = chunk
        if self._calls == SKIPPED + TRACED:
            self._stop()
        return result

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._workdir is None:
            return
        self._stop()
        if not is_main_process():
            return
        if self._steps:
            folder = self._workdir / "tensorboard" / "plugins" / "profile"
            print(f"traced {self._steps} step{'s' * (self._steps > 1)} into {folder}", flush=True)
        else:
            print(
                f"nothing traced: this process dispatched {self._calls} times, and the first {SKIPPED} are left out", flush=True
            )

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            assert self._workdir is not None  # nosec B101 # for the type checker: something was traced
            folder = max((self._workdir / "tensorboard" / "plugins" / "profile").iterdir())  # named by the time
            lines = [
                f"{name}\t{computes}\t{program}\n"
                for program, chunk in self._chunks.items()
                for name, computes in sorted(operations(self._program_text(chunk)).items())
            ]
            write_text(folder / OPERATIONS, "".join(lines))


def operations(hlo: str) -> dict[str, str]:
    """The operation that each instruction of a compiled program computes, by its name there and in a trace."""
    return dict(INSTRUCTION.findall(hlo))
