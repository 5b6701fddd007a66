"""A trace of a few training steps, for TensorBoard and Perfetto."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

SKIPPED, TRACED = 3, 5  # steps: what comes first is compilation


@contextmanager
def profiled(step_of: Callable[[int], Callable[..., Any]], workdir: Path) -> Iterator[Callable[[int], Callable[..., Any]]]:
    """Has the fourth to eighth step of this process traced into WORKDIR/tensorboard/plugins/profile; says so in the end.

    A trace that is still open when the context ends, for whatever reason, is written with the steps it has.

    Args:
      step_of: from the number of updates made to the step that comes next.
      workdir: the run directory.

    Yields:
      The same with the trace; steps that are traced are waited for.
    """
    calls, tracing = 0, False

    def stop() -> None:
        nonlocal tracing
        tracing = False
        jax.profiler.stop_trace()

    def traced_step_of(step: int) -> Callable[..., Any]:
        nonlocal calls, tracing
        calls += 1
        run_step, last = step_of(step), calls == SKIPPED + TRACED
        if not SKIPPED < calls <= SKIPPED + TRACED:
            return run_step
        if not tracing:
            jax.profiler.start_trace(str(workdir / "tensorboard"), create_perfetto_trace=True)
            tracing = True

        def run_and_wait(*arguments: Any) -> Any:
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                result = jax.block_until_ready(run_step(*arguments))
            if last:
                stop()
            return result

        return run_and_wait

    try:
        yield traced_step_of
    finally:
        if tracing:
            stop()
        if calls > SKIPPED:
            steps = min(calls - SKIPPED, TRACED)
            print(f"traced {steps} step{'s' * (steps > 1)} into {workdir / 'tensorboard' / 'plugins' / 'profile'}", flush=True)
        else:
            print(f"no step traced: this process made {calls}, and its first {SKIPPED} are left out", flush=True)
