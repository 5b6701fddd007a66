"""Our step on the device that JAX finds, as launch/train.py dispatches it there."""

from collections.abc import Callable

from benchmarks.jax_network import draw as draw
from benchmarks.jax_network import environment as environment
from benchmarks.jax_network import training_step
from benchmarks.workload import Workload


def steps(workload: Workload, chunk: int) -> tuple[dict[str, Callable[[], object]], list[str]]:
    """`chunk` updates in one dispatch, and in as many, each time waited for once; and no remarks."""
    return {"ours": training_step(workload, chunk), "ours_single": training_step(workload, dispatches=chunk)}, []
