"""Experiments as dataclasses: schema, types and ranges, validation, JSON, command-line flags."""

from cifar_flax.config.schema import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EarlyStoppingConfig,
    LogConfig,
    PlateauConfig,
    ResolutionConfig,
    TrainConfig,
    Variants,
    apply_variant,
)
from cifar_flax.config.specs import GroupConfig, ModelSpec, OptimizerSpec
from cifar_flax.config.types import (
    Activation,
    Balance,
    BatchNorm,
    DataSource,
    Dtype,
    FillMode,
    GlobalPool,
    Initializer,
    Monitor,
    Normalization,
    Padding,
    Policy,
)
