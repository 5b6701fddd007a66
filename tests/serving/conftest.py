import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.models import create_model, initialize
from cifar_flax.runtime.app import load_config
from cifar_flax.serving.classifier import Classifier
from tests.conftest import TINY_CONFIG
from tests.serving.internet import authority, internet, trusted  # noqa: F401


@dataclasses.dataclass
class Source:
    """A small network with random weights, as Classifier wants one."""

    config: object
    preprocessing: Preprocessing
    model: object
    weights: object

    def variables(self):
        return self.weights


@pytest.fixture(scope="session")
def make_source():
    tiny_config = load_config(str(TINY_CONFIG))

    @functools.cache
    def make(image_shape=(8, 8, 3), classes=10, coarse=True):
        names = tuple(f"line_{i}" for i in range(classes))
        channels = image_shape[2]
        known = Preprocessing(
            image_shape,
            names,
            ("rows", "columns") if coarse else (),
            tuple(2 * i // classes for i in range(classes)) if coarse else (),
            (0.5, 0.4, 0.3)[:channels],
            (0.1, 0.2, 0.3)[:channels],
        )
        model = create_model(tiny_config.model, classes)
        images = jax.random.normal(jax.random.key(1), (4, *image_shape), jnp.float32)
        return Source(tiny_config, known, model, initialize(model, jax.random.key(0), images))

    return make


@pytest.fixture
def source(make_source):
    return make_source()


@pytest.fixture
def classifier(source):
    return Classifier(source)
