"""A network in formats that need neither its run nor, but for loading them back into it, this package."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from cifar_flax.errors import UserError
from cifar_flax.export.huggingface import write_folder
from cifar_flax.files.atomic import write_bytes
from cifar_flax.files.installation import install_command
from cifar_flax.files.redact import reason
from cifar_flax.models import create_model
from cifar_flax.network import Network
from cifar_flax.pretrained.weights import write_weights
from cifar_flax.runtime import compilation
from cifar_flax.runtime.arithmetic import standard_arithmetic
from cifar_flax.runtime.flag_values import Format, KernelDtype

LOGITS = "divided by the temperature: their softmax is the percentages"  # of an ONNX file
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # that a StableHLO file runs on


def inference(network: Network) -> Callable[[jax.Array], jax.Array]:
    """The function from images, uint8 [N, H, W, C], to logits, float32 [N, num_classes], normalisation included.

    The logits are divided by the network's temperature: their softmax is what `Network.probabilities` gives. It computes in
    float32, whatever machine it is made on.
    """
    variables, preprocessing, temperature = network.variables, network.preprocessing, network.temperature
    model = create_model(network.config.model, preprocessing.num_classes)

    def logits(images: jax.Array) -> Any:
        logits: Any = model.apply(variables, preprocessing.normalize(images), train=False)
        return logits / temperature

    return logits


@standard_arithmetic()
def export(
    network: Network, how: Format, path: Path, dtype: KernelDtype = KernelDtype.FLOAT16, license_id: str | None = None
) -> None:
    """Writes a network to one file, or to a folder of them.

    Args:
      network: its figures go into all but StableHLO files; for a `dtype` they should be those of `as_stored`.
      how: the format.
      path: of the file, or of the folder; files are replaced as a whole.
      dtype: of kernels in safetensors; the computations of the other formats are in float32.
      license_id: for the model card, as in `write_folder`.

    Raises:
      UserError: a package that the format needs is not installed, or the network cannot be written in the format.
    """
    if how is Format.SAFETENSORS:
        write_weights(path, network, dtype)
    elif how is Format.HUGGINGFACE:
        write_folder(path, network, dtype, license_id)
    else:
        write_bytes(path, stablehlo(network) if how is Format.STABLEHLO else onnx(network))


def stablehlo(network: Network) -> bytes:
    """`inference` with its weights, serialised for any number of images and for `PLATFORMS`; JAX keeps it readable for months.

    Raises:
      UserError: the network's code takes the number of images for a plain number.

    References:
      jax.export's documentation, "Compatibility guarantees": files are read by versions up to six months newer.
    """
    images = _any_number_of_images(network)
    exported = jax.export.export(compilation.jit(inference(network)), platforms=PLATFORMS)(images)
    return bytes(exported.serialize())


def onnx(network: Network) -> bytes:
    """`inference` with its weights as an ONNX model: input "images", output "logits", any number of images.

    Its metadata are `class_names` and `figures`, as JSON, and what the `logits` are: divided by the temperature. The loss,
    which is of logits as they are, is left out.

    Raises:
      UserError: the package onnx is not installed, the network uses an operation without a translation, or its code takes the
        number of images for a plain number.
    """
    if importlib.util.find_spec("onnx") is None:
        raise UserError(f"onnx is not installed; this format needs  {install_command('onnx')}")
    from cifar_flax.export.onnx_writer import to_onnx  # a package that only this format needs

    _any_number_of_images(network)
    figures = {name: value for name, value in network.figures.items() if name != "loss"}
    metadata = {"class_names": json.dumps(network.class_names), "figures": json.dumps(figures), "logits": LOGITS}
    return to_onnx(inference(network), network.preprocessing.image_shape, metadata)


def _any_number_of_images(network: Network) -> jax.ShapeDtypeStruct:
    """The shape of images whose number is left open, which `inference` was tried with.

    Raises:
      UserError: it takes a number of images alone.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    shape, function = network.preprocessing.image_shape, inference(network)
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
    try:
        jax.eval_shape(function, images)
    except Exception as e:  # whatever Python and JAX raise where a number is expected
        jax.eval_shape(function, jax.ShapeDtypeStruct((2, *shape), jnp.uint8))  # raises what is wrong with any number
        raise UserError(
            f"{network.name}: these files take any number of images, and the code of the network expects a plain number: write "
            f"x.shape[0] in the place of len(x), and no loop or condition over it; or take --format=safetensors ({reason(e)})"
        ) from e
    return images
