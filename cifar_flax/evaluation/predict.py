"""The batched forward pass: images on the host in, logits on the host out."""

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from cifar_flax.data.batches import round_up_batch
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.models import Variables
from cifar_flax.runtime import compilation
from cifar_flax.runtime.arithmetic import standard_arithmetic
from cifar_flax.runtime.devices import put_global, replicated, sharded

INPUTS = "layer_inputs"  # a collection of variables, of `make_features` alone
Forward = Callable[[Variables, jax.Array], jax.Array]


def make_forward(model: nn.Module, preprocessing: Preprocessing, dtype: Any, mesh: Mesh, tta: str = "none") -> Forward:
    """Builds the jitted (variables, images uint8 [B, H, W, C]) -> logits float32 [B, num_classes], replicated.

    Args:
      model: called as `model(x, train)`.
      preprocessing: normalises the images.
      dtype: compute dtype of the model.
      mesh: the devices; B must be a multiple of their number.
      tta: one of `TTA`, test-time augmentation: the logits are the weighted mean over the views that `views` yields.
    """

    def forward(variables: Variables, images: jax.Array) -> Any:
        weighted = (
            weight * jnp.asarray(model.apply(variables, view, train=False), jnp.float32)
            for view, weight in views(preprocessing.normalize(images), tta)
        )
        return sum(weighted)

    return on_images(forward, dtype, mesh)


def make_features(model: nn.Module, preprocessing: Preprocessing, dtype: Any, mesh: Mesh) -> Forward:
    """Builds the jitted (variables, images uint8 [B, H, W, C]) -> features float32 [B, F], replicated.

    The features of an image are the input, flattened, of the last layer: of the module with parameters of its own (not only its
    submodules') that the model calls last, in most networks the Dense layer that returns the logits.

    Raises:
      UserError: by the returned function, where that layer is within a transformation that keeps its values, as a scan does.
    """

    def forward(variables: Variables, images: jax.Array) -> jax.Array:
        calls: list[tuple[tuple[str, ...], str]] = []  # of layers: their path, and the name of their input in INPUTS

        def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            parameters = context.module.variables.get("params", {}) if context.method_name == "__call__" else {}
            given = [*args, *kwargs.values()]
            if given and any(not isinstance(value, dict) for value in parameters.values()):
                calls.append((tuple(context.module.path), f"call {len(calls)}"))
                # As a variable it leaves nn.remat, whose arrays have no meaning outside.
                context.module.sow(INPUTS, calls[-1][1], given[0], reduce_fn=lambda _, x: x, init_fn=lambda: None)
            return call(*args, **kwargs)

        with nn.intercept_methods(record):
            _, state = model.apply(variables, preprocessing.normalize(images), train=False, mutable=[INPUTS])
        path, name = calls[-1] if calls else ((), "")  # none where the method that Flax sees is not called __call__
        features = flatten_dict(state.get(INPUTS, {})).get((*path, name))
        if features is None or features.shape[:1] != images.shape[:1]:
            layer = "/".join(path) or type(model).__name__
            raise UserError(
                f"no features: the last layer, {layer}, is within a scan or the like, which does not give its input away"
            )
        return features.reshape(len(images), -1).astype(jnp.float32)

    return on_images(forward, dtype, mesh)


def on_images(function: Forward, dtype: Any, mesh: Mesh) -> Forward:
    """Jits (variables, images) -> array with a row an image: variables and result replicated, images sharded over `mesh`."""
    return compilation.jit(
        function,
        dtype,
        in_shardings=(replicated(mesh), sharded(mesh)),
        out_shardings=replicated(mesh),
    )


def views(images: jax.Array, tta: str) -> Iterator[tuple[jax.Array, float]]:
    """Yields the views of test-time augmentation, float32 [N, H, W, C] each, with weights that sum to 1.

    "none" is the image; "flip" the image and its mirror image, half each; "flip+shift" those two with half the weight, and with
    the other half both moved by one pixel to the upper left and both to the lower right, the edge reflected into the gap.

    References:
      Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498, 2024, section 3.6: its multi-crop evaluation.
    """
    moved = [images]
    if tta == "flip+shift":
        height, width = images.shape[1:3]
        padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        moved += [padded[:, corner : corner + height, corner : corner + width] for corner in (2, 0)]
    for view, weight in zip(moved, (1.0,) if len(moved) == 1 else (0.5, 0.25, 0.25), strict=True):
        if tta == "none":
            yield view, weight
        else:
            yield view, weight / 2
            yield view[:, :, ::-1], weight / 2


@standard_arithmetic()
def predict(
    forward: Forward,
    variables: Variables,
    images: np.ndarray,
    batch_size: int,
    mesh: Mesh,
    between_batches: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """The rows that `forward` returns for all images, float32 [N, ...], in their order.

    Every batch has the same shape, the last one filled up with black images whose rows are cut off: one program serves them
    all, and a row does not depend on the images that share its batch. The next batch is gathered and copied to the devices
    while one is computed.

    Args:
      forward: from `make_forward` or `make_features`, for the same mesh.
      variables: {"params", "batch_stats"}.
      images: uint8 [N, H, W, C], N > 0, on the host, memory-mapped or not; with several processes the same in each.
      batch_size: images at a time over all devices, N where there are fewer; rounded up to a multiple of the devices.
      mesh: the devices.
      between_batches: called after each batch; an exception in it ends the pass.
    """
    batch_size = round_up_batch(batch_size, len(images), mesh.size)

    def put(start: int) -> jax.Array:
        batch = np.asarray(images[start : start + batch_size])
        filled = np.pad(batch, [(0, batch_size - len(batch))] + [(0, 0)] * (batch.ndim - 1))
        on_devices: jax.Array = put_global(filled, sharded(mesh))
        return on_devices

    rows, batch = [], put(0)
    for start in range(0, len(images), batch_size):
        computed = forward(variables, batch)
        if start + batch_size < len(images):
            batch = put(start + batch_size)
        rows.append(np.asarray(computed))  # waits: on CPUs of several hosts, two batches exchanged at once would deadlock
        between_batches()
    return np.concatenate(rows)[: len(images)]
