"""The mesh of devices, the arrays on it, and the memory for them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cifar_flax.config import Dtype
from cifar_flax.errors import ConfigError
from cifar_flax.runtime.compilation import multiplies_bfloat16_fast
from cifar_flax.runtime.memory import usable_memory


def data_parallel_mesh() -> Mesh:
    """All devices along one axis, "data"; the compiler places collectives."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy of the array on every device: state, data, metrics."""
    return NamedSharding(mesh, P())


def sharded(mesh: Mesh) -> NamedSharding:
    """The first axis spread over the devices: arrays with one entry an example."""
    return NamedSharding(mesh, P("data"))


def put_global(arrays: Any, sharding: NamedSharding) -> Any:
    """Copies a tree of host arrays, equal in every process, to the devices; each process to its own.

    `jax.device_put` would compare them between the processes, at every step.

    Args:
      arrays: a tree of host arrays of any shape and dtype.
      sharding: of each of them.

    Returns:
      The same tree of `jax.Array`, with the same shapes and dtypes.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(arrays, sharding)

    def copy(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(copy, arrays)


def compute_dtype(dtype: Dtype) -> Any:
    """The dtype of activations in training: the config's, `auto` being bfloat16 where this backend multiplies it fast."""
    return jnp.dtype(fastest_dtype() if dtype is Dtype.AUTO else dtype)


def inference_dtype(dtype: Dtype) -> Any:
    """The dtype of activations in inference: the config's, but float32 on hardware that is slow at bfloat16."""
    return jnp.dtype(fastest_dtype() if dtype is not Dtype.FLOAT32 else dtype)


def fastest_dtype() -> Dtype:
    """The dtype that `auto` stands for on this backend."""
    return Dtype.BFLOAT16 if multiplies_bfloat16_fast() else Dtype.FLOAT32


def check_fits_in_memory(state: Any, count: int = 1) -> None:
    """Checks that training states fit in each device's memory, beside their gradients and copies on their way to checkpoints.

    Args:
      state: a tree of arrays or `jax.ShapeDtypeStruct`.
      count: how many such states a device holds.

    Raises:
      ConfigError: it takes more than two fifths of that memory.
    """
    needed, available = count * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)), device_memory()
    if needed > available * 2 / 5:
        raise ConfigError(
            f"config.model: the weights and the optimizer's state take {needed / 2**30:.1f} GiB, more than two fifths of "
            f"the {available / 2**30:.1f} GiB of a device; make the network smaller"
            + (f", or train its {count} seeds one after another (config.train.vmap_seeds=false)" if count > 1 else "")
        )


def host_device() -> jax.Device:
    """The CPU as a device; the first accelerator where JAX_PLATFORMS leaves out the CPU."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def device_memory() -> int:
    """Bytes that one device can use; the devices of a CPU share its memory."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return usable_memory() // jax.local_device_count()
