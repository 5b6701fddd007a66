"""Where arrays live and how programs are compiled: the one place that knows about devices and backends."""

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import struct
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cifar_flax.config import Dtype
from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import ConfigError, UserError

# XLA's CPU backend of jaxlib 0.10 fuses convolutions into loops of its own that run at half the speed of the library kernels
# it would call otherwise; see benchmarks/throughput.py.
CPU_FLOAT32_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}


@struct.dataclass
class DeviceData:
    """A split on every device: images uint8 [N, H, W, C] and labels int32 [N], replicated."""

    images: jax.Array
    labels: jax.Array


def data_parallel_mesh() -> Mesh:
    """All devices along one axis, "data"; the compiler places collectives."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: state, data, metrics."""
    return NamedSharding(mesh, P())


def sharded(mesh: Mesh) -> NamedSharding:
    """The first axis spread over the devices: whatever has one entry an example."""
    return NamedSharding(mesh, P("data"))


def put_global(arrays: Any, sharding: NamedSharding) -> Any:
    """Copies a tree of host arrays, the same in every process, to the devices; each process to its own.

    `jax.device_put` would have the processes compare what they have, for images and at every step.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(arrays, sharding)

    def copy(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(copy, arrays)


def compute_dtype(dtype: Dtype) -> Any:
    """The dtype of activations: bfloat16 on accelerators and float32 on CPU, unless the config says which."""
    if dtype is Dtype.AUTO:
        return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return jnp.dtype(dtype)


@functools.cache
def compiler_options(dtype: Any) -> dict[str, Any]:
    """XLA options for `jax.jit(compiler_options=...)` on this backend; tried on a small program and left out if unknown."""
    if jax.default_backend() != "cpu" or dtype != jnp.float32:
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=CPU_FLOAT32_OPTIONS)(0.0)
    except jax.errors.JaxRuntimeError as e:
        logging.warning("this jaxlib does not know %s; training may be slower (%s)", [*CPU_FLOAT32_OPTIONS], e)
        return {}
    return CPU_FLOAT32_OPTIONS


def put_dataset(dataset: Dataset, mesh: Mesh) -> DeviceData:
    """Copies a split to every device.

    Raises:
      UserError: it does not fit beside what training needs: more than half of a device's memory.
    """
    needed, available = dataset.images.nbytes, _device_memory()
    if needed > available / 2:
        raise UserError(
            f"the images take {needed / 2**30:.1f} GiB, more than half of the {available / 2**30:.1f} GiB of a device; "
            "set --config.data.image_size lower"
        )
    images, labels = put_global((np.asarray(dataset.images), dataset.labels), replicated(mesh))
    return DeviceData(images, labels)


def check_fits_in_memory(state: Any) -> None:
    """Looks at the shapes of a training state, which every device holds whole.

    Raises:
      UserError: it does not fit beside its gradient: more than half of a device's memory.
    """
    needed, available = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)), _device_memory()
    if needed > available / 2:
        raise ConfigError(
            f"config.model: its weights and what the optimizer keeps of them take {needed / 2**30:.1f} GiB, more than half of "
            f"the {available / 2**30:.1f} GiB of a device; make the network smaller"
        )


def _device_memory() -> int:
    """Bytes that one device can use; the devices of a CPU share its memory."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()
