"""A run's network in forms that need neither the run nor, some of them, this package."""

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from cifar_flax.atomic import write_bytes
from cifar_flax.pretrained.weights import Pretrained, write_weights
from cifar_flax.run import Run

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # that a StableHLO file runs on


class Format(enum.StrEnum):
    """What `export` writes."""

    SAFETENSORS = "safetensors"  # weights with config, preprocessing and figures; cifar_flax.pretrained reads it
    STABLEHLO = "stablehlo"  # the whole computation from bytes to logits; jax.export.deserialize reads it


def inference(source: Run | Pretrained) -> Callable[[jax.Array], jax.Array]:
    """The function from images, uint8 [N, H, W, C], to logits, float32 [N, num_classes], normalisation included."""
    model, variables, preprocessing = source.model, source.variables(), source.preprocessing

    def logits(images: jax.Array) -> Any:
        return model.apply(variables, preprocessing.normalize(images / jnp.float32(255)), train=False)

    return logits


def export(run: Run, how: Format, path: Path, figures: dict[str, Any]) -> None:
    """Writes the weights that the run is evaluated with.

    Args:
      run: with a checkpoint; its best is taken.
      how: the form.
      path: of the file, replaced as a whole.
      figures: what is known of these weights, for a safetensors file.

    Raises:
      UserError: there is no intact checkpoint.
    """
    if how is Format.SAFETENSORS:
        write_weights(path, run.config, run.preprocessing, figures, run.variables())
    else:
        write_bytes(path, stablehlo(run))


def stablehlo(source: Run | Pretrained) -> bytes:
    """`inference` with its weights, serialised for any number of images and for `PLATFORMS`; JAX keeps it readable for months.

    References:
      jax.export's documentation, "Compatibility guarantees": files are read by versions up to six months newer.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *source.preprocessing.image_shape), jnp.uint8)
    exported = jax.export.export(jax.jit(inference(source)), platforms=PLATFORMS)(images)
    return bytes(exported.serialize())
