"""Our step on the device that JAX finds, as launch/train.py dispatches it there."""

from collections.abc import Callable
from typing import Any

from benchmarks.jax_network import draw as draw
from benchmarks.jax_network import training_step
from benchmarks.workload import Workload
from cifar_flax.training.run_environment import describe_environment


def steps(workload: Workload, chunk: int) -> tuple[dict[str, Callable[[], object]], list[str]]:
    """`chunk` updates in one dispatch, and in as many, each time waited for once; and no remarks."""
    return {"ours": training_step(workload, chunk), "ours_single": training_step(workload, dispatches=chunk)}, []


def environment() -> dict[str, Any]:
    """What it is measured on."""
    return describe_environment()
