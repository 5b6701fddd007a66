"""A network in one safetensors file: weights, config, preprocessing and test figures, held together by a hash."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cifar_flax.config import Config
from cifar_flax.config.serialize import from_dict, to_dict
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.registry import load_dataset
from cifar_flax.errors import UserError
from cifar_flax.evaluation.predict import make_predict_step, predict
from cifar_flax.evaluation.scores import scores
from cifar_flax.files.atomic import write_bytes
from cifar_flax.models import Variables, create_model
from cifar_flax.runtime.devices import compute_dtype, data_parallel_mesh, put_dataset

PARTS = ("config", "preprocessing", "figures")  # of the metadata, each as JSON


@dataclass(frozen=True)
class Pretrained:
    """A trained network, without the run that it came from.

    Attributes:
      config: what was trained.
      preprocessing: image shape, class names and normalisation.
      figures: what was measured of these very weights, such as {"split": "test", "top1": .75, "n": 10000}.
    """

    config: Config
    preprocessing: Preprocessing
    figures: dict[str, Any]
    _variables: Variables

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class, in the order of the logits."""
        return self.preprocessing.class_names

    @cached_property
    def model(self) -> nn.Module:
        """The network; `model.apply(variables(), images, train=False)` gives logits for normalised images."""
        return create_model(self.config.model, self.preprocessing.num_classes, compute_dtype(self.config.train.dtype))

    def variables(self) -> Variables:
        """{"params", "batch_stats"}: float32 arrays, converted from what the file holds."""
        return self._variables

    def evaluate(self, split: str = "test", tta: str = "none") -> dict[str, Any]:
        """Scores it on every image of "test" or "train" of the set that it was trained on, once; see `scores.scores`.

        Args:
          split: the images.
          tta: test-time augmentation, as in `training.prediction.views`.

        Raises:
          UserError: no such split, or the data are not here.
        """
        known, mesh = self.preprocessing, data_parallel_mesh()
        dataset = load_dataset(self.config.data, split)
        step = make_predict_step(self.model, known, compute_dtype(self.config.train.dtype), mesh, tta)
        batch_size = self.config.train.eval_batch_size
        logits = predict(step, self.variables(), put_dataset(dataset, mesh).images, batch_size, mesh)
        return scores(logits, dataset.labels, known.class_names, known.coarse_names, known.coarse_of_fine)


def write_weights(
    path: Path, config: Config, preprocessing: Preprocessing, figures: dict[str, Any], variables: Variables, half: bool = True
) -> None:
    """Writes one file.

    Args:
      path: FILE.safetensors; replaced as a whole.
      config: of the training.
      preprocessing: of its training set.
      figures: measured of the weights as the file has them; JSON types.
      variables: {"params", "batch_stats"}, float32.
      half: store kernels as float16, which halves the file; statistics and biases stay float32.

    Raises:
      UserError: a kernel has values beyond float16's range.
    """
    with np.errstate(over="ignore"):  # it is told below
        tensors = {
            "/".join(name): np.ascontiguousarray(np.asarray(x, np.float16 if half and np.ndim(x) > 1 else np.float32))
            for name, x in sorted(flatten_dict(dict(variables)).items())
        }
    infinite = [name for name, x in tensors.items() if not np.isfinite(x).all()]
    if infinite:
        raise UserError(f"{infinite[0]} does not fit into float16; write float32 instead")
    parts = (to_dict(config), asdict(preprocessing), figures)
    metadata = {name: json.dumps(part, sort_keys=True) for name, part in zip(PARTS, parts, strict=True)}
    write_bytes(path, save(tensors, {**metadata, "sha256": _digest(tensors, metadata)}))


def read_weights(path: Path) -> Pretrained:
    """Reads what `write_weights` wrote.

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
    except ValidationError as e:
        raise UserError(f"{path}: of another version of cifar_flax: {e.errors()[0]['msg']}") from None
    variables: Variables = unflatten_dict({tuple(name.split("/")): jnp.asarray(x, jnp.float32) for name, x in tensors.items()})
    return Pretrained(from_dict(json.loads(metadata["config"])), preprocessing, json.loads(metadata["figures"]), variables)


def _digest(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """SHA-256 over the metadata and over name, dtype, shape and bytes of each tensor."""
    sha = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, x in sorted(tensors.items()):
        sha.update(f"{name} {x.dtype} {x.shape}".encode())
        sha.update(np.ascontiguousarray(x).data)
    return sha.hexdigest()
