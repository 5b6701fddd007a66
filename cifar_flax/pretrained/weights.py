"""A network in one safetensors file: weights, config, preprocessing and figures, with a SHA-256 over all of them."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cifar_flax.config.serialize import from_dict, to_dict
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.sources.split_names import SPLITS
from cifar_flax.errors import UserError
from cifar_flax.evaluation.calibration import Calibration
from cifar_flax.files.atomic import write_bytes
from cifar_flax.files.checksum import sha256_of_arrays
from cifar_flax.files.folder import parse_json
from cifar_flax.files.redact import reason, visible
from cifar_flax.models import Variables, create_model, variable_shapes
from cifar_flax.network import Network
from cifar_flax.optim.groups import is_kernel
from cifar_flax.pretrained.trust import check_imports
from cifar_flax.runtime.flag_values import KernelDtype

SUFFIX = ".safetensors"
LONGEST_VALUE = 40  # characters of a value in a message
EXACT = (np.float32, np.float16, jnp.bfloat16, np.bool_)  # dtypes of tensors that are read without loss, beside whole numbers
MAX_WHOLE = 4  # bytes of those
SHARES = ("top", "macro_", "ece", "superclass_")  # how the names of figures in [0, 1] begin
ROUNDING = 1e-6  # by which float32 may leave that range
PARTS = ("config", "preprocessing", "figures", "calibration")  # of the metadata, each as JSON


def write_weights(path: Path, network: Network, dtype: KernelDtype = KernelDtype.FLOAT16) -> None:
    """Writes a network to one file.

    Args:
      path: FILE.safetensors; replaced as a whole.
      network: with its figures, of JSON types; they should be measured of the weights as the file has them: see `as_stored`.
      dtype: of kernels.

    Raises:
      UserError: a kernel has values beyond the dtype's range.
    """
    tensors = _tensors(network.variables, dtype)
    parts = (to_dict(network.config), asdict(network.preprocessing), network.figures, asdict(network.calibration))
    metadata = {name: json.dumps(part, sort_keys=True) for name, part in zip(PARTS, parts, strict=True)}
    write_bytes(path, save(tensors, {**metadata, "sha256": _digest(tensors, metadata)}))


def as_stored(network: Network, dtype: KernelDtype) -> Network:
    """The network as a file of this dtype has it, its kernels rounded; the same one where that changes no value.

    Raises:
      UserError: as `write_weights`.
    """
    variables = _variables(_tensors(network.variables, dtype))
    before, after = (flatten_dict(dict(tree)) for tree in (network.variables, variables))
    if all(np.array_equal(x, after[name]) for name, x in before.items()):
        return network
    rest = network.name, network.figures, network.step, network.calibration
    return Network(network.config, network.preprocessing, variables, *rest)


def read_weights(path: Path) -> Network:
    """Reads a file that `write_weights` wrote; the network is called as the file, without its suffix.

    Raises:
      UserError: the file is missing, is not one of ours, its hash differs, its tensors or other contents are out of their types
        or ranges, or it names somebody's code; see `trust`.
    """
    metadata, tensors = _open(path)
    missing = [name for name in (*PARTS, "sha256") if name not in metadata]
    if missing:
        raise UserError(f"{path}: has no {missing[0]}; expected a file that export --format=safetensors wrote")
    if _digest(tensors, {name: metadata[name] for name in PARTS}) != metadata["sha256"]:
        raise UserError(f"{path}: damaged (its hash differs); get it again")
    try:
        preprocessing: Preprocessing = _part(metadata, "preprocessing", Preprocessing)
        preprocessing.check()
        calibration: Calibration = _part(metadata, "calibration", Calibration)
        values, figures = parse_json(metadata["config"]), parse_json(metadata["figures"])
        _check_dtypes(tensors)
        variables = _variables(tensors)
    except UserError as e:
        raise UserError(f"{path}: {e}") from None
    except (ValueError, TypeError) as e:
        raise UserError(f"{path}: damaged: {e}; get it again") from None
    if not isinstance(values, dict) or not isinstance(figures, dict):
        raise UserError(f"{path}: damaged: its config or its figures are no JSON object; get it again")
    try:
        check_figures(figures)
        check_imports(values)
        config = from_dict(values)
    except UserError as e:
        raise UserError(f"{path}: {e}") from None
    except RecursionError:
        raise UserError(f"{path}: damaged: its config is nested too deeply; get it again") from None
    return Network(config, preprocessing, variables, path.stem, figures, calibration=calibration)


def check_variables(network: Network, origin: str) -> None:
    """Refuses weights that the network described beside them cannot compute with; computes nothing.

    Raises:
      UserError: weights are missing, are more than it has, have another shape, or are whole numbers where it has others.
    """
    preprocessing = network.preprocessing
    image = jax.ShapeDtypeStruct((1, *preprocessing.image_shape), jnp.float32)
    try:
        model = create_model(network.config.model, preprocessing.num_classes)
        logits: Any = jax.eval_shape(lambda x: model.apply(network.variables, x, train=False), image)
        if logits.shape != (1, preprocessing.num_classes):
            raise ValueError(f"{list(logits.shape)} logits for {preprocessing.num_classes} classes")
        expected = variable_shapes(model, preprocessing.image_shape)
        given, wanted = (flatten_dict(dict(variables)) for variables in (network.variables, expected))
        if unused := given.keys() - wanted.keys():
            raise ValueError(f"it has no {'/'.join(min(unused))}")
        for name, x in given.items():
            if jnp.issubdtype(x.dtype, jnp.floating) != jnp.issubdtype(wanted[name].dtype, jnp.floating):
                raise ValueError(f"its {'/'.join(name)} is {wanted[name].dtype}, not {x.dtype}")
    except UserError as e:
        raise UserError(f"{origin}: {e}") from None
    except MemoryError:
        raise
    except Exception as e:  # whatever a user's own network raises
        raise UserError(f"{origin}: its weights do not fit the network that it describes: {reason(e)}") from None


def _part(metadata: dict[str, str], name: str, kind: type) -> Any:
    """A part of the metadata, checked against the annotations of its dataclass."""
    try:
        return TypeAdapter(kind).validate_json(metadata[name])
    except ValidationError as e:
        error = e.errors()[0]
        place = ".".join(map(str, (name, *error["loc"])))
        if error["type"] == "missing":
            raise UserError(f"of another version of cifar_flax: it has no {place}; export it again") from None
        raise UserError(f"its {place}: {error['msg'].removeprefix('Value error, ')}; export it again") from None


def check_figures(figures: dict[str, Any]) -> None:
    """Refuses what cannot have been measured.

    Raises:
      UserError: a figure is no number of its range, or `split`, which says what they are measured on, is none.
    """
    for name, value in figures.items():
        if name == "split":
            sound, expected = value in SPLITS, f"one of {', '.join(SPLITS)}"
        elif name == "n":
            sound, expected = type(value) is int and 1 <= value <= sys.maxsize, "a count"
        elif name.startswith(SHARES):
            sound, expected = type(value) in (int, float) and -ROUNDING <= value <= 1 + ROUNDING, "a number in [0, 1]"
        else:  # NaN is in no range
            sound, expected = type(value) in (int, float) and abs(value) <= sys.float_info.max, "a number"
        if not sound:
            raise UserError(f"its figures.{name}: {json.dumps(value)[:LONGEST_VALUE]}; expected {expected}; measure it again")


def _open(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the tensors of a safetensors file."""
    if not path.is_file():  # a pipe would keep the reader waiting
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as e:  # a TypeError where NumPy has no such dtype
        raise UserError(f"{path}: not a safetensors file, or cut short ({e})") from None


def _tensors(variables: Variables, dtype: KernelDtype) -> dict[str, np.ndarray]:
    """The arrays of a file by name, sorted."""
    kernels = jnp.dtype(dtype)

    def stored(path: tuple[str, ...], x: Any) -> Any:
        if not jnp.issubdtype(x.dtype, jnp.floating):  # a count among the statistics
            return x.dtype
        return kernels if path[0] == "params" and is_kernel("/".join(path), np.shape(x)) else np.float32

    with np.errstate(over="ignore"):  # reported below
        tensors = {
            "/".join(map(_escaped, path)): np.asarray(x, stored(path, x), order="C")
            for path, x in sorted(flatten_dict(dict(variables)).items())
        }
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(variables))):
        raise UserError("its weights are not finite: the training diverged; choose another checkpoint")
    infinite = [name for name, x in tensors.items() if not np.isfinite(x).all()]
    if infinite:
        raise UserError(f"{infinite[0]} does not fit into {dtype}; write another --dtype, such as float32")
    return tensors


def _check_dtypes(tensors: dict[str, np.ndarray]) -> None:
    """Refuses tensors that JAX would round or wrap, and those of complex numbers."""
    for name, x in tensors.items():
        if x.dtype not in EXACT and not (x.dtype.kind in "iu" and x.dtype.itemsize <= MAX_WHOLE):
            raise UserError(f"{visible(name)} is {x.dtype}; expected float32, float16, bfloat16 or 32 bits of a whole number")


def _variables(tensors: dict[str, np.ndarray]) -> Variables:
    paths = {name: tuple(part.replace("~1", "/").replace("~0", "~") for part in name.split("/")) for name in tensors}
    dtypes = {name: jnp.float32 if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype for name, x in tensors.items()}
    return unflatten_dict({paths[name]: jnp.asarray(x, dtypes[name]) for name, x in tensors.items()})


def _escaped(part: str) -> str:
    """A part of a path without a slash, which names of Flax may have (`nn.WeightNorm`): as in JSON Pointers, RFC 6901."""
    return part.replace("~", "~0").replace("/", "~1")


def _digest(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """SHA-256 over the metadata and the tensors, in the order of their names."""
    return sha256_of_arrays(dict(sorted(tensors.items())), json.dumps(metadata, sort_keys=True))
