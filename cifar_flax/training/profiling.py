"""A trace of a few training steps, for TensorBoard and Perfetto."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

SKIPPED, TRACED = 3, 5  # steps: what comes first is compilation


def profiled(step_of: Callable[[int], Callable[..., Any]], workdir: Path) -> Callable[[int], Callable[..., Any]]:
    """Has the fourth to eighth step of this process traced into WORKDIR/tensorboard/plugins/profile.

    Args:
      step_of: from the number of updates made to the step that comes next.
      workdir: the run directory.

    Returns:
      The same with the trace; steps that are traced are waited for.
    """
    calls = 0

    def traced_step_of(step: int) -> Callable[..., Any]:
        nonlocal calls
        calls += 1
        run_step = step_of(step)
        if calls <= SKIPPED or calls > SKIPPED + TRACED:
            return run_step
        if calls == SKIPPED + 1:
            jax.profiler.start_trace(str(workdir / "tensorboard"), create_perfetto_trace=True)
        last = calls == SKIPPED + TRACED

        def run_and_wait(*arguments: Any) -> Any:
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                result = jax.block_until_ready(run_step(*arguments))
            if last:
                jax.profiler.stop_trace()
                print(f"traced {TRACED} steps into {workdir / 'tensorboard' / 'plugins' / 'profile'}", flush=True)
            return result

        return run_and_wait

    return traced_step_of
