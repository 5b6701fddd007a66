"""Networks by config: `create_model`, `initialize`, `describe`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cifar_flax.config import Architecture, ModelConfig
from cifar_flax.errors import ConfigError
from cifar_flax.models.convnet import ConvNet
from cifar_flax.models.resnet import ResNet
from cifar_flax.models.speednet import SpeedNet

ARCHITECTURES = {Architecture.CONVNET: ConvNet, Architecture.SPEEDNET: SpeedNet, Architecture.RESNET: ResNet}
Variables = Mapping[str, Any]  # "params", and "batch_stats" where there is BatchNorm


def create_model(config: ModelConfig, num_classes: int, dtype: Any = jnp.float32) -> nn.Module:
    """Builds the module that `config` describes; call it as `model.apply(variables, images, train=...)`.

    Args:
      config: architecture and its spec.
      num_classes: width of the logits.
      dtype: of activations; parameters and statistics are float32 whatever it is.
    """
    return ARCHITECTURES[config.name](config, num_classes, dtype)


def initialize(model: nn.Module, key: jax.Array, first_images: jax.Array) -> Variables:
    """Draws the initial variables.

    Args:
      model: from `create_model`.
      key: a PRNG key.
      first_images: float32 [N, H, W, C], normalised training images, for networks whose first layer is learnt from data.

    Returns:
      {"params": ..., "batch_stats": ...}, float32; no "batch_stats" without BatchNorm.

    Raises:
      UserError: the images are too small for the network.
    """
    with _fitting(first_images.shape[1:3]):
        # Within jit the forward pass is left out, so that all images cost nothing where no layer asks for them.
        return model.init(key, first_images, train=False)


def check_sizes(model: nn.Module, image_shape: tuple[int, int, int], sizes: Mapping[str, int]) -> None:
    """Checks that a network takes images of other sizes with the weights that it has for its own, without computing anything.

    Args:
      model: from `create_model`.
      image_shape: (H, W, C) of the images that it is initialised with.
      sizes: {field of the config: pixels a side}.

    Raises:
      UserError: it does not; names the field.
    """
    if not sizes:
        return

    def shapes(height: int, width: int) -> Any:
        images = jax.ShapeDtypeStruct((1, height, width, image_shape[2]), jnp.float32)
        return jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)

    with _fitting(image_shape[:2]):
        own = shapes(*image_shape[:2])
    for field, size in sizes.items():
        with _fitting((size, size), field):
            there = shapes(size, size)
        if there != own:
            raise ConfigError(
                f"{field}: a network with config.model.features=flatten has other weights at {size}x{size} pixels than at "
                f"{image_shape[0]}x{image_shape[1]}; set config.model.features to mean, max or max_plus_mean"
            )


def describe(model: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """The table of layers, with output shapes, parameters and floating-point operations, for one image [H, W, C].

    Raises:
      UserError: the images are too small for the network.
    """
    image = jnp.zeros((1, *image_shape), jnp.float32)
    table = nn.tabulate(model, jax.random.key(0), compute_flops=True, console_kwargs={"width": 200, "force_terminal": False})
    with _fitting(image_shape[:2]):
        return table(image, train=False)


@contextmanager
def _fitting(size: tuple[int, ...], field: str = "config.model") -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, ZeroDivisionError) as e:
        reason = str(e).partition("\n")[0]
        raise ConfigError(f"{field}: this network cannot take {size[0]}x{size[1]} images: {reason}") from e
