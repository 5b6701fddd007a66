"""Layout of the runs of one training on the devices: one run over all of them, or a grid of seeds by data."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cifar_flax.runtime import compilation
from cifar_flax.runtime.devices import data_parallel_mesh, replicated
from cifar_flax.training.state import TrainState


class SeedLayout:
    """Shapes and shardings of states and batches for a number of seeds.

    The states of several seeds are stacked along a first axis, and each step is one vmapped program. The devices form a grid of
    seeds by data, with as many rows as the greatest common divisor of both numbers: with as many seeds as devices each device
    trains one of them; of six seeds on four devices, each two devices train three.

    Attributes:
      seeds: number of runs.
      devices_per_seed, seeds_per_device: columns of the grid, and seeds of a row.
      mesh: all devices along one axis, "data": for evaluation, and for the state of one run.
    """

    def __init__(self, seeds: int) -> None:
        self.seeds, self.mesh = seeds, data_parallel_mesh()
        rows = 1 if seeds == 1 else math.gcd(seeds, jax.device_count())
        self.devices_per_seed, self.seeds_per_device = jax.device_count() // rows, seeds // rows
        grid, axes = (rows, self.devices_per_seed), ("seed", "data")
        self._step_mesh: Mesh = (
            self.mesh if seeds == 1 else jax.make_mesh(grid, axes, axis_types=(AxisType.Auto, AxisType.Auto))
        )

    @property
    def state(self) -> NamedSharding:
        """Sharding of the state that a step takes: replicated, or spread by seeds."""
        return NamedSharding(self._step_mesh, P() if self.seeds == 1 else P("seed"))

    @property
    def chunk(self) -> NamedSharding:
        """Sharding of arrays [steps, (seeds,) B, ...]: batches are spread over the devices of their seed."""
        return NamedSharding(self._step_mesh, P(None, "data") if self.seeds == 1 else P(None, "seed", "data"))

    @property
    def replicated(self) -> NamedSharding:
        """Sharding of arrays that every device holds as a whole: the training images, and the metrics, which hosts fetch."""
        return NamedSharding(self._step_mesh, P())

    def shape(self, *one: int) -> tuple[int, ...]:
        """The shape of arrays of all runs, from that of one run's."""
        return one if self.seeds == 1 else (self.seeds, *one)

    def abstract(self, state: TrainState) -> TrainState:
        """The shapes, dtypes and shardings of the state that a step takes, from those of one run's state."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(self.shape(*x.shape), x.dtype, sharding=self.state), state)

    def stack(self, states: list[TrainState]) -> TrainState:
        """Joins the states of all runs.

        Args:
          states: one a seed, in their order.

        Returns:
          The state that a step takes: each array with a first axis [seeds], spread by seeds; for one seed the state itself.
        """
        return states[0] if self.seeds == 1 else self._stack(*states)

    def take_seed(self, state: TrainState, i: int) -> TrainState:
        """The state of one run, of those that `stack` was given; it lies on all devices."""
        return state if self.seeds == 1 else self._take(state, np.int32(i))

    # Programs, because arrays of several hosts cannot be indexed outside of one.

    @cached_property
    def _stack(self) -> Callable[..., Any]:
        def stack(*states: TrainState) -> Any:
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

        return compilation.jit(stack, out_shardings=self.state)

    @cached_property
    def _take(self) -> Callable[..., Any]:
        return compilation.jit(lambda state, i: jax.tree.map(lambda x: x[i], state), out_shardings=replicated(self.mesh))
