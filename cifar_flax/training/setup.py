"""What a config, its data set and the devices at hand determine before training begins."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cifar_flax.config import Config
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.registry import data_hashes
from cifar_flax.data.splits import training_splits
from cifar_flax.errors import ConfigError
from cifar_flax.models import check_sizes, create_model, describe
from cifar_flax.optim.groups import check_patterns
from cifar_flax.optim.optimizers import create_optimizer
from cifar_flax.optim.schedules import create_schedule
from cifar_flax.runtime.devices import compute_dtype, data_parallel_mesh, put_global, replicated
from cifar_flax.runtime.multihost import is_main_process
from cifar_flax.training.state import TrainState, abstract_state, create_state
from cifar_flax.training.transfer import init_from_run

FIRST_IMAGES = 5000  # for networks whose first layer is learnt from data; what the CIFAR speed runs whiten with


@dataclass(frozen=True)
class Setup:
    """The parts that the training loop puts together.

    Attributes:
      config: what was asked for.
      mesh: all devices.
      train_set, validation_set: on the host; no validation set where its fraction is 0.
      steps_per_epoch: full batches in an epoch.
      preprocessing: read off the training set.
      dtype: of activations.
      model, schedule, optimizer: built from the config.
    """

    config: Config
    mesh: Mesh
    train_set: Dataset
    validation_set: Dataset | None
    steps_per_epoch: int
    preprocessing: Preprocessing
    dtype: Any
    model: nn.Module
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation

    @classmethod
    def load(cls, config: Config) -> "Setup":
        """Loads the training split and builds the rest.

        Raises:
          UserError: the data are missing, or batch size and devices, images and network, or network and the patterns of
            `config.optim`, do not go together.
        """
        mesh = data_parallel_mesh()
        train_set, validation_set = training_splits(config.data)
        _check_batch_size(config.train.batch_size, len(train_set), mesh.size)
        steps_per_epoch = len(train_set) // config.train.batch_size
        preprocessing = Preprocessing.of(train_set, config.data.normalization, data_hashes(config.data, "train"))
        dtype = compute_dtype(config.train.dtype)
        model = create_model(config.model, preprocessing.num_classes, dtype)
        schedule = create_schedule(config.optim, config.train.epochs * steps_per_epoch, steps_per_epoch)
        optimizer = create_optimizer(config.optim, schedule)
        setup = cls(config, mesh, train_set, validation_set, steps_per_epoch, preprocessing, dtype, model, schedule, optimizer)
        check_sizes(
            model,
            preprocessing.image_shape,
            {f"config.train.resolutions[{i}].size": part.size for i, part in enumerate(config.train.resolutions)},
        )
        if config.optim.groups or config.optim.freeze:
            check_patterns(config.optim, setup.abstract_state().params)
        return setup

    def initial_state(self) -> TrainState:
        """The state that training begins with; says what is taken over of another run.

        Raises:
          UserError: that run is missing, damaged, of another network, or of pixels normalised in another way.
        """
        images = jnp.asarray(self.train_set.images[:FIRST_IMAGES])
        first_images = put_global(self.preprocessing.normalize(images), replicated(self.mesh))
        state = create_state(self.config, self.model, self.optimizer, first_images, self.mesh)
        if self.config.train.init_from:
            state, line = init_from_run(state, self.config.train.init_from, self.mesh, self.config.data.normalization)
            if is_main_process():
                print(line, flush=True)
        return state

    def abstract_state(self) -> TrainState:
        """Its shapes, for restoring."""
        return abstract_state(self.config, self.preprocessing, self.mesh)

    def image_size(self, step: int) -> int | None:
        """Pixels a side to train on after so many updates; None for the images' own."""
        total = self.config.train.epochs * self.steps_per_epoch
        return next((part.size for part in self.config.train.resolutions if step < part.until * total), None)

    def layers(self) -> str:
        """The table of layers."""
        return describe(self.model, self.preprocessing.image_shape)


def _check_batch_size(batch_size: int, images: int, devices: int) -> None:
    if batch_size > images:
        raise ConfigError(f"config.train.batch_size: {batch_size} is more than the {images} training images")
    if batch_size % devices:
        raise ConfigError(f"config.train.batch_size: {batch_size} cannot be shared evenly by {devices} devices")
