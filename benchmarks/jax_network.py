"""The training step of ours, and the same as JAX compiles it by default and as Flax's own layers make it."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.workload import CLASSES, PRODUCT, Answer, Workload
from cifar_flax.config import Config, Dtype
from cifar_flax.config.types import Activation
from cifar_flax.data.batches import ResidentSource
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.models import batch_norm, convnet, create_model, initialize, resnet, speednet
from cifar_flax.models.activations import ACTIVATIONS
from cifar_flax.optim.freezing import apply_frozen
from cifar_flax.optim.groups import matches
from cifar_flax.optim.optimizers import create_optimizer
from cifar_flax.optim.schedules import create_schedule
from cifar_flax.runtime import compilation
from cifar_flax.runtime.devices import compute_dtype, data_parallel_mesh, replicated
from cifar_flax.training.run_environment import describe_environment
from cifar_flax.training.state import TrainState, initial_state
from cifar_flax.training.step import TrainStep

Step = Callable[[], object]


PLAIN_ACTIVATIONS = {
    Activation.RELU: nn.relu,
    Activation.ELU: nn.elu,
    Activation.GELU: functools.partial(nn.gelu, approximate=False),
    Activation.SILU: nn.silu,
    Activation.TANH: jnp.tanh,
    Activation.SIGMOID: nn.sigmoid,
}


@contextlib.contextmanager
def default_options() -> Iterator[None]:
    """Our step as `jax.jit` compiles it by default."""
    with mock.patch.object(compilation, "compiler_options", return_value={}):
        yield


@contextlib.contextmanager
def plain_layers() -> Iterator[None]:
    """Convolution, activations, max pooling, dropout and batch normalisation as Flax has them."""

    def conv(
        features: int,
        size: int,
        padding: str | int,
        kernel_init: Any,
        use_bias: bool,
        dtype: Any,
        stride: int = 1,
        *,
        name: str,
    ) -> nn.Module:
        given = {"padding": padding, "kernel_init": kernel_init, "use_bias": use_bias, "dtype": dtype}
        return nn.Conv(features, (size, size), stride, name=name, **given)

    def max_pool(x: jax.Array, window: int) -> jax.Array:
        return nn.max_pool(x, (window, window), (window, window)) if window > 1 else x

    def convolve(x: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    with (
        mock.patch.multiple(convnet, Conv=conv, max_pool=max_pool, Dropout=nn.Dropout),
        mock.patch.multiple(resnet, Conv=conv, Dropout=nn.Dropout),
        mock.patch.multiple(speednet, Conv=conv, max_pool=max_pool, convolve=convolve, add_bias=jnp.add),
        mock.patch.object(batch_norm, "BatchNormalization", nn.BatchNorm),
        mock.patch.dict(ACTIVATIONS, PLAIN_ACTIVATIONS),
    ):
        yield


def draw(config: Config, batch_size: int, seed: int = 0) -> Workload:
    """Random images, and parameters and statistics as initialised but with noise on them, so that none is 0 or 1 by chance."""
    rng = np.random.default_rng(seed)
    size = config.data.image_size or 32
    images = rng.integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8)
    model = create_model(config.model, CLASSES, jnp.float32)
    variables = compilation.jit(lambda x: initialize(model, jax.random.key(0), x))(images / np.float32(255))

    def noisy(tree: Any) -> dict[str, np.ndarray]:
        arrays = {path: np.array(x) for path, x in flatten_dict(tree, sep="/").items()}
        return {path: (x + rng.uniform(0, 0.2, x.shape)).astype(np.float32) if x.ndim == 1 else x for path, x in arrays.items()}

    params = noisy(variables["params"])
    frozen = frozenset(path for path in params if matches(config.optim.freeze, path))
    labels = rng.integers(0, CLASSES, batch_size, dtype=np.int32)
    return Workload(config, images, labels, params, noisy(variables.get("batch_stats", {})), frozen)


def answers(workload: Workload) -> dict[str, Answer]:
    """The answers of ours, and of Flax's own layers, to a workload without dropout; in float32."""
    actual = {"ours": _answer(workload, compilation.compiler_options())}
    with plain_layers():
        return {**actual, "plain_jit": _answer(workload, {})}


def steps(workload: Workload) -> tuple[dict[str, Step], list[str]]:
    """Compiled training steps, each making one update and waiting for it, and a matrix product; and no remarks.

    "ours" computes in the dtype of the config, by default the fastest here; the others in float32.
    """
    config = workload.config
    in_float32 = dataclasses.replace(
        workload, config=dataclasses.replace(config, train=dataclasses.replace(config.train, dtype=Dtype.FLOAT32))
    )
    made: dict[str, Step] = {"ours": training_step(workload)}
    made["ours_f32"] = made["ours"] if compute_dtype(config.train.dtype) == jnp.float32 else training_step(in_float32)
    with default_options():
        made["default_options"] = training_step(in_float32)
        with plain_layers():
            made["plain_jit"] = training_step(in_float32)
    multiply = compilation.jit(jnp.matmul)
    matrix = jnp.ones((PRODUCT, PRODUCT))
    return {**made, "matrix_product_jax": lambda: multiply(matrix, matrix).block_until_ready()}, []


def training_step(workload: Workload, chunk: int = 1, dispatches: int = 1, image_size: int | None = None) -> Step:
    """Compiles the step of launch/train.py, gather, augmentation and metrics included, for the workload's config and images.

    What is returned makes `chunk` updates in each of so many dispatches, all on the same images, and waits for them once.
    Images are resized to `image_size` pixels a side after augmentation; None leaves them.
    """
    config, mesh = workload.config, data_parallel_mesh()
    dtype = compute_dtype(config.train.dtype)
    dataset = Dataset(workload.images, workload.labels, tuple(map(str, range(CLASSES))))
    preprocessing = Preprocessing.of(dataset, config.data.normalization, {})
    model = create_model(config.model, CLASSES, dtype)
    optimizer = create_optimizer(config.optim, create_schedule(config.optim, 1000, 100))
    shapes = jax.eval_shape(lambda images: initial_state(config, model, optimizer, jnp.uint32(0), images), workload.inputs)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)  # drawing parameters takes long to compile
    ours = jax.tree.map(jnp.array, _variables(workload))  # copies, since the step donates its state
    state = dataclasses.replace(zeros, **ours, opt_state=optimizer.init(ours["params"]))
    state = jax.device_put(state, replicated(mesh))
    source = ResidentSource(dataset, NamedSharding(mesh, PartitionSpec(None, "data")))
    train_step = TrainStep(config, model, optimizer, preprocessing, 100, image_size)

    def run(state: TrainState, resident: Any, indices: jax.Array) -> Any:
        if chunk == 1:
            return train_step(state, source.batch(resident, indices))
        return jax.lax.scan(lambda state, _: train_step(state, source.batch(resident, indices)), state, length=chunk)

    step = compilation.jit(run, dtype, donate_argnums=0)
    indices = np.arange(len(dataset), dtype=np.int32)

    def updates() -> None:
        nonlocal state
        for _ in range(dispatches):
            state, metrics = step(state, source.resident, indices)
        jax.block_until_ready((state.params, metrics))

    updates()  # compiles
    return updates


def environment() -> dict[str, Any]:
    """The machine and versions that all is measured on."""
    return describe_environment()


def _answer(workload: Workload, options: dict[str, Any]) -> Answer:
    config = workload.config
    model = create_model(config.model, CLASSES, jnp.float32)
    apply = apply_frozen(model, config.optim.freeze)
    targets = optax.smooth_labels(jax.nn.one_hot(workload.labels, CLASSES), config.optim.label_smoothing)

    def compute(variables: Any, images: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            logits, _ = apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy(logits, targets).mean(), logits

        grads, logits = jax.grad(loss, has_aux=True)(variables["params"])
        return logits, model.apply(variables, images, train=False), grads

    logits, eval_logits, grads = jax.device_get(
        jax.jit(compute, compiler_options=options)(_variables(workload), workload.inputs)
    )
    by_path = flatten_dict(grads, sep="/")
    return Answer(logits, eval_logits, {path: g for path, g in by_path.items() if path not in workload.frozen})


def _variables(workload: Workload) -> dict[str, Any]:
    return {
        "params": unflatten_dict(workload.params, sep="/"),
        "batch_stats": unflatten_dict(workload.batch_stats, sep="/"),
    }
