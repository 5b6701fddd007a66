"""Networks: a spec with its Flax module in each file, and what is done with a module whoever wrote it."""

from cifar_flax.models.convnet import BlockConfig, ConvNet, DenseConfig
from cifar_flax.models.convolution import Conv
from cifar_flax.models.modules import (
    Variables,
    check_module,
    check_sizes,
    count_parameters,
    create_model,
    describe,
    initialize,
    variable_shapes,
)
from cifar_flax.models.resnet import ResNet
from cifar_flax.models.speednet import SpeedNet, StageConfig

__all__ = [
    "BlockConfig",
    "Conv",
    "ConvNet",
    "DenseConfig",
    "ResNet",
    "SpeedNet",
    "StageConfig",
    "Variables",
    "check_module",
    "check_sizes",
    "count_parameters",
    "create_model",
    "describe",
    "initialize",
    "variable_shapes",
]
