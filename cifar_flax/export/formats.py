"""A run's network in forms that need neither the run nor, some of them, this package."""

import enum
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from cifar_flax.errors import UserError
from cifar_flax.files.atomic import write_bytes
from cifar_flax.models import create_model
from cifar_flax.pretrained.weights import Pretrained, write_weights
from cifar_flax.run import Run

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # that a StableHLO file runs on


class Format(enum.StrEnum):
    """What `export` writes."""

    SAFETENSORS = "safetensors"  # weights with config, preprocessing and figures; cifar_flax.pretrained reads it
    STABLEHLO = "stablehlo"  # the whole computation from bytes to logits; jax.export.deserialize reads it
    ONNX = "onnx"  # likewise; ONNX Runtime and others read it


def inference(source: Run | Pretrained) -> Callable[[jax.Array], jax.Array]:
    """The function from images, uint8 [N, H, W, C], to logits, float32 [N, num_classes], normalisation included.

    It computes in float32, whatever machine it is made on.
    """
    variables, preprocessing = source.variables(), source.preprocessing
    model = create_model(source.config.model, preprocessing.num_classes)

    def logits(images: jax.Array) -> Any:
        return model.apply(variables, preprocessing.normalize(images), train=False)

    return logits


def export(run: Run, how: Format, path: Path, figures: dict[str, Any]) -> None:
    """Writes the weights that the run is evaluated with.

    Args:
      run: with a checkpoint; its best is taken.
      how: the form.
      path: of the file, replaced as a whole.
      figures: what is known of these weights, for safetensors and ONNX.

    Raises:
      UserError: there is no intact checkpoint, or what the form needs is not installed.
    """
    if how is Format.SAFETENSORS:
        write_weights(path, run.config, run.preprocessing, figures, run.variables())
    else:
        write_bytes(path, stablehlo(run) if how is Format.STABLEHLO else onnx(run, figures))


def stablehlo(source: Run | Pretrained) -> bytes:
    """`inference` with its weights, serialised for any number of images and for `PLATFORMS`; JAX keeps it readable for months.

    References:
      jax.export's documentation, "Compatibility guarantees": files are read by versions up to six months newer.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *source.preprocessing.image_shape), jnp.uint8)
    exported = jax.export.export(jax.jit(inference(source)), platforms=PLATFORMS)(images)
    return bytes(exported.serialize())


def onnx(source: Run | Pretrained, figures: dict[str, Any]) -> bytes:
    """`inference` with its weights as an ONNX model: input "images", output "logits", any number of images.

    Its metadata are `class_names` and `figures`, as JSON.

    Raises:
      UserError: the package onnx is not installed, or the network uses what there is no translation for.
    """
    if importlib.util.find_spec("onnx") is None:
        raise UserError("onnx is not installed; this format needs  pip install -e '.[onnx]'")
    from cifar_flax.export.onnx_writer import to_onnx  # a package that only this format needs

    known = source.preprocessing
    metadata = {"class_names": json.dumps(known.class_names), "figures": json.dumps(figures)}
    return to_onnx(inference(source), known.image_shape, metadata)
