"""Every knob, with its type, default, range and meaning; `validate` refuses what makes no sense.

A config file in `configs/` returns a `Config` that differs from the defaults where the experiment does; single values are
overridden on the command line: `--config.optim.learning_rate=3e-4`. The dataclasses are plain; pydantic reads types and
ranges off their annotations when `config_file` validates one.
"""

import enum
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict

from cifar_flax.errors import UserError

Fraction = Annotated[float, Ge(0), Lt(1)]  # [0, 1)
Share = Annotated[float, Ge(0), Le(1)]  # [0, 1]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Seed = Annotated[int, Ge(0), Lt(2**32)]


class Section:
    """Base of the config dataclasses: no fields beyond the declared, no conversions but int to float, no NaN."""

    __slots__ = ()
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Normalization(enum.StrEnum):
    """What is done to pixels before the network sees them."""

    UNIT = "unit"  # pixels / 255, as the write-ups do
    STANDARDIZE = "standardize"  # then minus the mean, over the standard deviation, of each channel of the training images


class Architecture(enum.StrEnum):
    """The network families."""

    CONVNET = "convnet"


class Activation(enum.StrEnum):
    """Activation functions."""

    LINEAR = "linear"
    RELU = "relu"
    ELU = "elu"
    GELU = "gelu"
    SILU = "silu"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    HARD_SIGMOID = "hard_sigmoid"


class Padding(enum.StrEnum):
    """Of convolutions."""

    SAME = "SAME"
    VALID = "VALID"


class BatchNorm(enum.StrEnum):
    """Where BatchNorm goes."""

    NONE = "none"
    CONV = "conv"  # after every convolution, before its activation
    BLOCK = "block"  # once, at the end of the block, before pooling


class Initializer(enum.StrEnum):
    """Of kernels; biases start at 0."""

    GLOROT_UNIFORM = "glorot_uniform"  # what Keras uses
    HE_NORMAL = "he_normal"
    LECUN_NORMAL = "lecun_normal"  # what Flax uses


class Features(enum.StrEnum):
    """How the last feature map becomes the vector that the dense layers see."""

    FLATTEN = "flatten"
    MEAN = "mean"
    MAX = "max"


class Optimizer(enum.StrEnum):
    """Update rules."""

    ADAM = "adam"
    ADAMW = "adamw"
    SGD = "sgd"


class Schedule(enum.StrEnum):
    """Learning rate over time."""

    CONSTANT = "constant"
    INVERSE_TIME = "inverse_time"  # Keras' `decay`: lr / (1 + decay * step)
    EXPONENTIAL = "exponential"
    PIECEWISE = "piecewise"
    COSINE = "cosine"
    ONE_CYCLE = "one_cycle"


class Dtype(enum.StrEnum):
    """Of activations and gradients."""

    AUTO = "auto"  # bfloat16 on accelerators, float32 on CPU
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(slots=True)
class DataConfig(Section):
    """Which images, and which of them are held out."""

    name: str = "shapes100"  # shapes100, cifar100, cifar10, any TFDS image-classification set, or folder:PATH
    image_size: Annotated[int, Ge(4), Le(1024)] | None = None  # pixels a side; None keeps the set's own (folders: 32)
    validation_fraction: Fraction = 0.1  # of train, stratified; 0 trains on all of it
    split_seed: Seed = 0  # chooses the validation images; apart from `seed`, so that seeds share one split
    normalization: Normalization = Normalization.STANDARDIZE


@dataclass(slots=True)
class AugmentConfig(Section):
    """Random changes to training images, in this order: shift, crop, flip."""

    flip: bool = False  # mirror left-right with probability 1/2
    crop_padding: Annotated[int, Ge(0), Le(512)] = 0  # pixels of zero padding before a random crop to the old size
    shift: Fraction = 0.0  # largest shift, as a fraction of width and of height, with subpixels


@dataclass(slots=True)
class BlockConfig(Section):
    """Convolutions, each with its activation, then pooling and dropout. A tuple of one is used for every convolution."""

    features: tuple[Count, ...] = (64,)  # output channels, one entry a convolution
    kernel_sizes: tuple[Count, ...] = (3,)
    paddings: tuple[Padding, ...] = (Padding.SAME,)
    activations: tuple[Activation, ...] = ()  # empty: the model's activation
    batch_norm: BatchNorm = BatchNorm.NONE
    pool: Count = 2  # max-pooling window and stride; 1 is none
    dropout: Fraction = 0.0  # after pooling


@dataclass(slots=True)
class DenseConfig(Section):
    """One hidden fully connected layer."""

    features: Count = 512
    activation: Activation | None = None  # None: the model's activation
    dropout: Fraction = 0.0  # after the activation


@dataclass(slots=True)
class ModelConfig(Section):
    """The network."""

    name: Architecture = Architecture.CONVNET
    activation: Activation = Activation.RELU
    blocks: tuple[BlockConfig, ...] = ()
    features: Features = Features.FLATTEN
    dense: tuple[DenseConfig, ...] = ()  # hidden layers; the logits come after them
    kernel_init: Initializer = Initializer.GLOROT_UNIFORM
    batch_norm_momentum: Fraction = 0.99  # of the running statistics: old * m + new * (1 - m)
    batch_norm_epsilon: Positive = 1e-3


@dataclass(slots=True)
class OptimConfig(Section):
    """Loss, update rule and learning rate."""

    name: Optimizer = Optimizer.ADAM
    learning_rate: Positive = 1e-3  # the schedule's peak
    b1: Fraction = 0.9  # Adam, AdamW
    b2: Fraction = 0.999  # Adam, AdamW
    eps: Positive = 1e-7  # Adam, AdamW; Keras' default
    momentum: Fraction = 0.0  # SGD
    nesterov: bool = False  # SGD
    weight_decay: NonNegative = 0.0  # AdamW: decoupled; SGD: added to the gradient; kernels only
    clip_norm: Positive | None = None  # largest global norm of the gradient
    label_smoothing: Fraction = 0.0
    ema_decay: Fraction | None = None  # of params and batch statistics; evaluation then uses them

    schedule: Schedule = Schedule.CONSTANT
    warmup_epochs: NonNegative = 0.0  # linear from 0 (one_cycle: from peak / 25), before the schedule starts
    decay: NonNegative = 0.0  # inverse_time: per step
    decay_rate: Annotated[float, Gt(0), Le(1)] = 0.96  # exponential: factor per epoch; piecewise: factor per boundary
    boundaries: tuple[Positive, ...] = ()  # piecewise: epochs at which the rate falls
    final_fraction: Share = 0.0  # cosine: last rate / peak


@dataclass(slots=True)
class TrainConfig(Section):
    """How long, in what portions and with what precision."""

    epochs: Count = 10
    batch_size: Count = 128  # over all devices together
    eval_batch_size: Count = 500  # over all devices together; rounded up to a multiple of their number
    dtype: Dtype = Dtype.AUTO  # of activations and gradients; params, statistics and optimizer state are float32


@dataclass(slots=True)
class CheckpointConfig(Section):
    """When the state is saved and what is kept."""

    every_minutes: NonNegative = 5.0  # within an epoch; one is always written at its end
    every_steps: Count | None = None  # within an epoch, besides
    keep_latest: Count = 2  # and the best


@dataclass(slots=True)
class LogConfig(Section):
    """What is written down along the way."""

    every_steps: Count = 50  # steps between the training records in metrics.jsonl
    tensorboard: bool = True


@dataclass(slots=True)
class Config(Section):
    """An experiment."""

    seed: Seed = 0  # of initialisation, shuffling, augmentation and dropout
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)


def validate(config: Config) -> None:
    """Checks what crosses fields; each field by itself is checked against its annotation by `config_file.from_dict`.

    Raises:
      UserError: names the field, its value and what was expected.
    """
    for i, block in enumerate(config.model.blocks):
        for name in ("kernel_sizes", "paddings", "activations"):
            given, wanted = len(getattr(block, name)), len(block.features)
            if given not in (1, wanted) and not (name == "activations" and given == 0):
                raise UserError(
                    f"config.model.blocks[{i}].{name}: {given} entries for {wanted} convolutions; give 1 or {wanted}"
                )
    optim = config.optim
    if optim.nesterov and optim.momentum == 0:
        raise UserError("config.optim.nesterov: needs config.optim.momentum above 0")
    if optim.weight_decay and optim.name is Optimizer.ADAM:
        raise UserError("config.optim.weight_decay: adam has none; use --config.optim.name=adamw")
    rising = (optim.warmup_epochs, *optim.boundaries)
    if optim.schedule is Schedule.PIECEWISE and tuple(sorted(set(rising))) != rising:
        raise UserError(f"config.optim.boundaries: expected rising epochs after warm-up, not {optim.boundaries}")
