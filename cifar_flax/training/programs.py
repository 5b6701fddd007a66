"""The programs that make the steps of a chunk, compiled before they are needed."""

import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, TypeVar

import jax

from cifar_flax.data.batches import BatchSource
from cifar_flax.runtime import background, compilation
from cifar_flax.runtime.arithmetic import standard_arithmetic
from cifar_flax.runtime.devices import compute_dtype
from cifar_flax.training.seed_layout import SeedLayout
from cifar_flax.training.state import TrainState
from cifar_flax.training.step import TrainStep

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
Program = Callable[[TrainState, Any, Any], tuple[TrainState, jax.Array]]


class Programs(Generic[K, T]):
    """Compiled programs by key; asking for one waits until it is compiled.

    Attributes:
      waited: seconds for which callers have waited for programs.
    """

    def __init__(self, compile_program: Callable[[K], T]) -> None:
        """`compile_program` maps a key to its program."""
        self._compile = compile_program
        self._programs: dict[K, Future[T]] = {}
        self.waited = 0.0

    def compile_ahead(self, keys: Iterable[K]) -> None:
        """Starts compiling the programs of `keys` in the background, in their order; each is compiled once."""
        for key in keys:
            if key not in self._programs:
                self._programs[key] = background.submit(partial(self._compile, key))

    def get(self, key: K, check: Callable[[], None] = lambda: None) -> T:
        """The program of `key`; raises what its compilation raised, or `check`, which is called while it is waited for."""
        self.compile_ahead([key])
        begin = time.monotonic()
        try:
            return background.wait(self._programs[key], check)
        finally:
            self.waited += time.monotonic() - begin


@standard_arithmetic()
def compile_chunk(
    step_of_run: TrainStep, length: int, source: BatchSource, layout: SeedLayout, state: TrainState, device_constants: Any
) -> Program:
    """Compiles the steps of a chunk: jit(scan over steps(vmap over seeds(step))), each wrapper where it is asked for.

    Args:
      step_of_run: the step of one run.
      length: number of steps.
      source: gives the batches.
      layout: of states and batches on the devices.
      state: of one run, as shapes, dtypes and shardings.
      device_constants: `source.resident`, and the variables of the teacher or None; a program takes them as arguments.

    Returns:
      The program (state, device_constants, what `source.load` gives) -> (state, metrics); it donates the state.
    """
    step_of_all = jax.vmap(step_of_run, in_axes=(0, 0, None)) if layout.seeds > 1 else step_of_run

    def step(state: TrainState, device_constants: Any, chunk_data: Any) -> tuple[TrainState, jax.Array]:
        resident, teacher_variables = device_constants
        return step_of_all(state, source.batch(resident, chunk_data), teacher_variables)

    def train_step(state: TrainState, device_constants: Any, chunk: Any) -> tuple[TrainState, jax.Array]:
        if length == 1:
            state, metrics = step(state, device_constants, jax.tree.map(lambda x: x[0], chunk))
            return state, metrics[None]
        return jax.lax.scan(lambda state, chunk_data: step(state, device_constants, chunk_data), state, chunk)

    config = step_of_run.config.train
    jitted = compilation.jit(
        train_step,
        compute_dtype(config.dtype),
        in_shardings=(layout.state, layout.replicated, layout.chunk),
        out_shardings=(layout.state, layout.replicated),
        donate_argnums=0,
    )
    shapes = source.shapes(layout.shape(config.batch_size))
    chunk = jax.tree.map(lambda x: jax.ShapeDtypeStruct((length, *x.shape), x.dtype, sharding=layout.chunk), shapes)
    return jitted.lower(layout.abstract(state), device_constants, chunk).compile()
