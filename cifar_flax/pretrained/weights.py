"""A network in one safetensors file: weights, config, preprocessing and figures, with a SHA-256 over all of them."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cifar_flax.config.serialize import from_dict, to_dict
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.evaluation.calibration import Calibration
from cifar_flax.files.atomic import write_bytes
from cifar_flax.models import Variables
from cifar_flax.network import Network

PARTS = ("config", "preprocessing", "figures", "calibration")  # of the metadata, each as JSON


def write_weights(path: Path, network: Network, half: bool = True) -> None:
    """Writes a network to one file.

    Args:
      path: FILE.safetensors; replaced as a whole.
      network: with its figures, of JSON types; they should be measured of the weights as the file has them.
      half: store kernels as float16, which halves the file; statistics and biases stay float32.

    Raises:
      UserError: a kernel has values beyond float16's range.
    """
    with np.errstate(over="ignore"):  # reported below
        tensors = {
            "/".join(name): np.ascontiguousarray(np.asarray(x, np.float16 if half and np.ndim(x) > 1 else np.float32))
            for name, x in sorted(flatten_dict(dict(network.variables)).items())
        }
    infinite = [name for name, x in tensors.items() if not np.isfinite(x).all()]
    if infinite:
        raise UserError(f"{infinite[0]} does not fit into float16; write float32 instead")
    parts = (to_dict(network.config), asdict(network.preprocessing), network.figures, asdict(network.calibration))
    metadata = {name: json.dumps(part, sort_keys=True) for name, part in zip(PARTS, parts, strict=True)}
    write_bytes(path, save(tensors, {**metadata, "sha256": _digest(tensors, metadata)}))


def read_weights(path: Path) -> Network:
    """Reads a file that `write_weights` wrote; the network is called as the file, without its suffix.

    Raises:
      UserError: the file is missing, is not one of ours, or its hash differs.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as e:
        raise UserError(f"{path}: not a safetensors file, or cut short ({e})") from None
    missing = [name for name in (*PARTS, "sha256") if name not in metadata]
    if missing:
        raise UserError(f"{path}: has no {missing[0]}; expected a file that launch/export.py --format=safetensors wrote")
    if _digest(tensors, {name: metadata[name] for name in PARTS}) != metadata["sha256"]:
        raise UserError(f"{path}: damaged (its hash differs); get it again")
    try:
        preprocessing = TypeAdapter(Preprocessing).validate_json(metadata["preprocessing"])
        preprocessing.check()
        calibration = TypeAdapter(Calibration).validate_json(metadata["calibration"])
    except ValidationError as e:
        raise UserError(f"{path}: of another version of cifar_flax: {e.errors()[0]['msg']}") from None
    except ValueError as e:
        raise UserError(f"{path}: damaged: {e}; get it again") from None
    variables: Variables = unflatten_dict({tuple(name.split("/")): jnp.asarray(x, jnp.float32) for name, x in tensors.items()})
    config, figures = from_dict(json.loads(metadata["config"])), json.loads(metadata["figures"])
    return Network(config, preprocessing, variables, path.stem, figures, calibration=calibration)


def _digest(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """SHA-256 over the metadata and over name, dtype, shape and bytes of each tensor."""
    sha = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, x in sorted(tensors.items()):
        sha.update(f"{name} {x.dtype} {x.shape}".encode())
        sha.update(np.ascontiguousarray(x).data)
    return sha.hexdigest()
