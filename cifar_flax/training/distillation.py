"""A teacher: a trained network whose predictions are a part of the targets of another."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cifar_flax.config import Config
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from cifar_flax.models import Variables, create_model
from cifar_flax.network import Network
from cifar_flax.runtime.devices import compute_dtype
from cifar_flax.training.checkpoints.info import digest
from cifar_flax.training.run_dir import RESTART_HINT
from cifar_flax.training.transfer import load_source

FIELD = "config.train.teacher"
FILE = "teacher.json"  # of a run that has a teacher


@dataclass(frozen=True)
class Teacher:
    """A network that predicts within the training step.

    Attributes:
      model: called as `model(x, train=False)`.
      preprocessing: its own: it normalises pixels as it was trained to.
      order: int [C], the place among its classes of each class of the student.
      temperature: that its logits are divided by.
      weight: share of its predictions in the targets.
      variables: of the model, float32, on the host: an argument of the step's program, no constant in it.
      name: for people.
    """

    model: nn.Module
    preprocessing: Preprocessing
    order: np.ndarray
    temperature: float
    weight: float
    variables: Variables = field(repr=False)
    name: str

    def targets(self, variables: Variables, images: jax.Array, targets: jax.Array) -> jax.Array:
        """Mixes what the teacher says of the very images that the student learns from into their targets.

        Args:
          variables: `self.variables`, on the devices.
          images: float32 [B, H, W, C] in [0, 1], augmented, of the data set's own size.
          targets: float32 [B, C], each row a distribution.

        Returns:
          The same shape.

        References:
          Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, whose loss at a student's temperature of 1 is the
            cross-entropy with these targets.
          Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022: both see the same view.
        """
        logits: Any = self.model.apply(variables, self.preprocessing.standardize(images), train=False)
        predictions = jax.nn.softmax(jnp.asarray(logits, jnp.float32)[:, self.order] / self.temperature)
        return (1 - self.weight) * targets + self.weight * predictions

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the variables, hexadecimal."""
        return digest(self.variables)


def load_teacher(config: Config, student: Preprocessing) -> Teacher:
    """The teacher that the config names.

    Raises:
      UserError: there is no such network, or it knows other classes, or images of another shape.
    """
    network, name = load_source(config.train.teacher, FIELD)
    _check_fits(network, student)
    dtype = compute_dtype(config.train.dtype)
    return Teacher(
        model=create_model(network.config.model, network.preprocessing.num_classes, dtype),
        preprocessing=network.preprocessing,
        order=np.array([network.class_names.index(each) for each in student.class_names]),
        temperature=config.train.teacher_temperature * network.temperature,
        weight=config.train.teacher_weight,
        variables=jax.tree.map(np.asarray, dict(network.variables)),
        name=name,
    )


def record_teacher(workdir: Path, teacher: Teacher) -> None:
    """Writes RUN/teacher.json; a run that goes on must have the teacher that it began with.

    Raises:
      UserError: the weights of the teacher have changed, or what was recorded of them is damaged.
    """
    path = workdir / FILE
    try:
        before = read_checksummed(path)["sha256"] if path.exists() else teacher.sha256
    except (ValueError, KeyError) as e:
        raise UserError(f"{path}: damaged ({e}); remove it if {teacher.name} is what it was") from None
    if before != teacher.sha256:
        raise UserError(f"{FIELD}: {teacher.name} has other weights than when the run in {workdir} began; {RESTART_HINT}")
    write_text(path, dumps_checksummed({"name": teacher.name, "sha256": teacher.sha256}))


def _check_fits(network: Network, student: Preprocessing) -> None:
    if sorted(network.class_names) != sorted(student.class_names):
        missing = [name for name in student.class_names if name not in network.class_names]
        example = f": it does not know {missing[0]}" if missing else ""
        raise ConfigError(
            f"{FIELD}: {network.name} knows {len(network.class_names)} classes, not the {len(student.class_names)} of the data"
            f"{example}; choose a network that was trained on the same classes"
        )
    if network.preprocessing.image_shape != student.image_shape:
        shapes = ["x".join(map(str, shape)) for shape in (network.preprocessing.image_shape, student.image_shape)]
        raise ConfigError(f"{FIELD}: {network.name} takes images of {shapes[0]}, and the data are {shapes[1]}")
