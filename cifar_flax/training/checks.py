"""Checks before training starts: refusal of what would fail its first step, warnings of what would say nothing at its end."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from cifar_flax.augment.policy import create_augmentation
from cifar_flax.config import Config
from cifar_flax.config.serialize import to_dict
from cifar_flax.config.user_code import is_ours
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.sources.folders import PREFIX as FOLDER
from cifar_flax.errors import ConfigError
from cifar_flax.models import check_sizes
from cifar_flax.optim.groups import check_patterns
from cifar_flax.optim.losses import create_loss
from cifar_flax.runtime.devices import compute_dtype
from cifar_flax.training.state import TrainState

if TYPE_CHECKING:
    from cifar_flax.training.distillation import Teacher


def check_batch_size(config: Config, images: int, devices: int) -> None:
    """Checks that batches can be made and parted.

    Args:
      config: its `train` section counts.
      images: number of training images.
      devices: number of devices that share a batch.

    Raises:
      ConfigError: the batch is larger than the set, or cannot be shared evenly by devices and microbatches.
    """
    batch_size, parts = config.train.batch_size, config.train.microbatches
    if batch_size > images:
        raise ConfigError(
            f"config.train.batch_size: {batch_size} is more than the {images} training images; set it to {images} or less"
        )
    if batch_size % devices:
        raise ConfigError(
            f"config.train.batch_size: {batch_size} cannot be shared evenly by {devices} devices; choose a multiple of "
            f"{devices}, or fewer devices (CUDA_VISIBLE_DEVICES)"
        )
    if batch_size % (devices * parts):
        raise ConfigError(
            f"config.train.microbatches: {batch_size} images cannot be parted evenly into {parts} microbatches"
            + (f" on {devices} devices" if devices > 1 else "")
        )


def check_parts(
    config: Config,
    preprocessing: Preprocessing,
    model: nn.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    state: TrainState,
) -> None:
    """Checks that images, network, loss, transforms and optimizer go together, without computing anything.

    Args:
      config: of the run.
      preprocessing: of its training set.
      model: built from the config.
      optimizer: built from it.
      state: before the first update, as shapes and dtypes.

    Raises:
      ConfigError: they do not.
    """
    sizes = {f"config.train.resolutions[{i}].size": part.size for i, part in enumerate(config.train.resolutions)}
    check_sizes(model, preprocessing.image_shape, sizes)
    check_square(config, preprocessing.image_shape)
    check_patterns(config.optim, state.params)
    check_functions(config, preprocessing)
    if not is_ours(type(config.optim)):  # with which tests make updates
        check_optimizer(config, optimizer, state)


def check_square(config: Config, image_shape: tuple[int, int, int]) -> None:
    """Checks that images which are to grow, from size to size, are square.

    Raises:
      ConfigError: they are not, and would be distorted.
    """
    height, width, _ = image_shape
    if config.train.resolutions and height != width:
        raise ConfigError(f"config.train.resolutions: for square images, and these have {height}x{width} pixels; leave it out")


def check_functions(config: Config, preprocessing: Preprocessing) -> None:
    """Traces the loss and the transforms of `config.augment.custom`, which refuse now what their first step would refuse.

    Raises:
      ConfigError: one of them returns another shape or dtype than it has to.
    """
    batch_size = config.train.batch_size
    images = jax.ShapeDtypeStruct((batch_size, *preprocessing.image_shape), jnp.float32)
    logits = jax.ShapeDtypeStruct((batch_size, preprocessing.num_classes), jnp.float32)
    indices, epoch = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((batch_size,), ()))
    jax.eval_shape(create_loss(config), logits, logits)
    if config.augment.custom:
        augment = create_augmentation(config.augment)
        jax.eval_shape(lambda *args: augment(jax.random.key(0), *args), images, logits, indices, epoch)


def check_optimizer(config: Config, optimizer: optax.GradientTransformationExtraArgs, state: TrainState) -> None:
    """Checks that an optimizer can make its first update, without computing anything.

    Args:
      config: of the run.
      optimizer: built from it.
      state: before the first update, as shapes and dtypes.

    Raises:
      ConfigError: an update raises an error, is no tree of the parameters' shapes, or changes the shapes of the state.
    """
    extra_args = {"compute_dtype": compute_dtype(config.train.dtype)}

    def update(grads: Any, opt_state: Any, params: Any, value: jax.Array) -> Any:
        return optimizer.update(grads, opt_state, params, value=value, **extra_args)

    value = jax.ShapeDtypeStruct((), jnp.float32)
    updates, opt_state = jax.eval_shape(update, state.params, state.opt_state, state.params, value)
    name = config.optim.name
    for what, before, after in (("updates", state.params, updates), ("a state", state.opt_state, opt_state)):
        structure: Any = jax.tree.structure(before)
        if structure != jax.tree.structure(after):
            expected = "a tree like that of the parameters" if what == "updates" else "the tree that its init returns"
            raise ConfigError(f"config.optim: the update of {name} returns {what} of another structure; expected {expected}")
        for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
            if (old.shape, old.dtype) != (new.shape, new.dtype):
                place = f" at {jax.tree_util.keystr(path)}" if path else ""
                raise ConfigError(
                    f"config.optim: the update of {name} returns {what} with {new.dtype}{list(new.shape)}{place}; expected "
                    f"{old.dtype}{list(old.shape)}"
                )


def warn_of_one_class(train_set: Dataset, name: str) -> None:
    """Warns where all training images are of one class."""
    if not np.ptp(train_set.labels):
        only = train_set.class_names[train_set.labels[0]]
        logging.warning("%s: all training images are of one class, %s; a top-1 of 100%% says nothing", name, only)


def shared_inputs(config: Config, restart: bool) -> dict[str, str]:
    """Inputs that all processes of one training must share, by name; a folder of pictures may lie elsewhere on each."""
    name = FOLDER if config.data.name.startswith(FOLDER) else config.data.name
    fields = to_dict(replace(config, data=replace(config.data, name=name)))
    return {"its config": json.dumps(fields, sort_keys=True), "--restart": str(restart)}


def shared_data(preprocessing: Preprocessing, streamed: bool, teacher: "Teacher | None") -> dict[str, str]:
    """Data, their place and the teacher, which all processes of one training must share, by name."""
    return {
        "its training images or classes": json.dumps([preprocessing.hashes, preprocessing.class_names], sort_keys=True),
        "where it keeps the images (config.data.source=auto goes by the memory of its devices)": str(streamed),
        **({"the weights of config.train.teacher": teacher.sha256} if teacher else {}),
    }
