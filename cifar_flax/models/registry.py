"""The networks that configs name by a short name."""

from cifar_flax.config.registry import Registry
from cifar_flax.config.specs import ModelSpec

MODELS: Registry[type[ModelSpec]] = Registry("model")
