"""Every knob, with its type, default, range and meaning; `validate` refuses what makes no sense.

A config file in `configs/` returns a `Config` that differs from the defaults where the experiment does; single values are
overridden on the command line: `--config.optim.learning_rate=3e-4`. The dataclasses are plain; pydantic reads types and
ranges off their annotations when `config_file` validates one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from cifar_flax.choices import (
    Activation,
    Architecture,
    BatchNorm,
    Count,
    Degrees,
    Dtype,
    Features,
    FillMode,
    Fraction,
    Half,
    Initializer,
    Monitor,
    NonNegative,
    Normalization,
    Optimizer,
    Padding,
    Patience,
    Policy,
    Positive,
    Schedule,
    Section,
    Seed,
    Share,
    Size,
)
from cifar_flax.errors import UserError


@dataclass(slots=True)
class DataConfig(Section):
    """Which images, and which of them are held out."""

    name: str = "shapes100"  # shapes100, cifar100, cifar10, any TFDS image-classification set, or folder:PATH
    image_size: Annotated[int, Ge(4), Le(1024)] | None = None  # pixels a side; None keeps the set's own (folders: 32)
    validation_fraction: Fraction = 0.1  # of train, stratified; 0 trains on all of it
    folds: Annotated[int, Ge(2)] | None = None  # cross-validation: of this many stratified parts of train, ...
    fold: Annotated[int, Ge(0)] = 0  # ... the one that is held out, in place of `validation_fraction`
    split_seed: Seed = 0  # chooses the validation images; apart from `seed`, so that seeds share one split
    normalization: Normalization = Normalization.STANDARDIZE


@dataclass(slots=True)
class AugmentConfig(Section):
    """Random changes to training images, in the order of the fields; each image has its own draws."""

    flip: bool = False  # mirror left-right with probability 1/2
    alternating_flip: bool = False  # `flip`: each image every other epoch instead, half of them in the even ones
    rotation: Degrees = 0.0  # largest, either way
    width_shift: Fraction = 0.0  # largest, either way, of the width; with subpixels
    height_shift: Fraction = 0.0
    zoom: Fraction = 0.0  # scales of height and of width, drawn apart from [1 - zoom, 1 + zoom]
    fill_mode: FillMode = FillMode.NEAREST  # what rotation, shift and zoom bring into the picture
    fill_value: Share = 0.0  # of fill_mode constant
    crop_padding: Size = 0  # pixels of zero padding before a random crop to the old size
    policy: Policy = Policy.NONE
    rand_augment_layers: Annotated[int, Ge(1), Le(8)] = 2  # operations an image
    rand_augment_magnitude: Annotated[int, Ge(0), Le(30)] = 9  # of each, in thirtieths of its range
    brightness: Fraction = 0.0  # factor drawn from [1 - brightness, 1 + brightness]; so too the next two
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0
    hue: Half = 0.0  # largest turn of the colour circle, either way, in turns
    cutout: Size = 0  # pixels a side of a square set to grey; the paper has 16 for CIFAR-10, 8 for CIFAR-100
    random_erasing: Share = 0.0  # probability of a random rectangle of noise
    mixup: NonNegative = 0.0  # alpha of the Beta distribution of the weights; 0 is off, the paper has 1 for CIFAR
    cutmix: NonNegative = 0.0  # likewise, of the areas; where both are on, each batch takes one of them


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
class GroupConfig(Section):
    """Settings of the parameters whose path, such as `block0_conv0/kernel`, matches a shell pattern."""

    pattern: str = "*"
    learning_rate: NonNegative = 1.0  # times the common rate
    weight_decay: NonNegative | None = None  # None: the common one


@dataclass(slots=True)
class OptimConfig(Section):
    """Loss, update rule and learning rate."""

    name: Optimizer = Optimizer.ADAM
    learning_rate: Positive = 1e-3  # the schedule's peak
    b1: Fraction = 0.9  # Adam, AdamW, Adamax, Lion, Muon's Adam
    b2: Fraction | None = None  # likewise; None is .999, for Lion .99
    eps: Positive = 1e-7  # of all that divide by a norm; Keras' default
    rho: Fraction | None = None  # RMSprop, Adadelta: forgetting of the squares; None is Keras' .9 and .95
    momentum: Fraction | None = None  # SGD, RMSprop: None is 0; Muon: None is .95
    nesterov: bool = False  # SGD, Muon
    weight_decay: NonNegative = 0.0  # AdamW, Lion, Muon: decoupled; SGD: added to the gradient; kernels only
    groups: tuple[GroupConfig, ...] = ()  # the first whose pattern matches a parameter holds
    freeze: tuple[str, ...] = ()  # patterns of parameters that stay as they are, BatchNorm's statistics with them
    sam_rho: NonNegative = 0.0  # sharpness-aware minimisation: how far up the slope the gradient is taken; 0 is off
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
class PlateauConfig(Section):
    """Lowers the learning rate, on top of its schedule, when validation stops improving: Keras' ReduceLROnPlateau."""

    patience: Patience = 0  # epochs without improvement after which the rate falls; 0 is off
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1  # new rate / old
    cooldown: Patience = 0  # epochs after a fall in which none is counted
    min_delta: NonNegative = 1e-4  # what counts as an improvement
    min_learning_rate: NonNegative = 0.0
    monitor: Monitor = Monitor.LOSS


@dataclass(slots=True)
class EarlyStoppingConfig(Section):
    """Ends training when validation stops improving; the best checkpoint stays."""

    patience: Patience = 0  # epochs without improvement after which training ends; 0 is off
    min_delta: NonNegative = 0.0
    monitor: Monitor = Monitor.LOSS


@dataclass(slots=True)
class TrainConfig(Section):
    """How long, in what portions and with what precision."""

    epochs: Count = 10
    batch_size: Count = 128  # over all devices together
    eval_batch_size: Count = 500  # over all devices together; rounded up to a multiple of their number
    init_from: str = ""  # a run directory; parameters of its best checkpoint are taken over where name and shape agree
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
    plateau: PlateauConfig = field(default_factory=PlateauConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)


Variants = Mapping[str, Callable[[Config], object]]  # name -> what it changes in the config, in place


def vary(config: Config, variant: str, variants: Variants) -> Config:
    """Applies the variant of a config file that `--config=FILE.py:VARIANT` asks for; "" is the file's own recipe.

    Raises:
      UserError: there is no such variant; those that there are are named.
    """
    if variant:
        if variant not in variants:
            raise UserError(f"no variant {variant!r}; expected one of {', '.join(variants) or 'none'}")
        variants[variant](config)
    return config


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
    data, augment, optim = config.data, config.augment, config.optim
    if data.folds is not None and data.fold >= data.folds:
        raise UserError(f"config.data.fold: {data.fold} is not one of the {data.folds} folds; they count from 0")
    if augment.alternating_flip and not augment.flip:
        raise UserError("config.augment.alternating_flip: needs config.augment.flip")
    for name, section in (("plateau", config.plateau), ("early_stopping", config.early_stopping)):
        if section.patience and data.folds is None and data.validation_fraction == 0:
            raise UserError(f"config.{name}: needs a validation split; set config.data.validation_fraction above 0")
    _validate_optim(optim)


def _validate_optim(optim: OptimConfig) -> None:
    with_momentum = (Optimizer.SGD, Optimizer.RMSPROP, Optimizer.MUON)
    if optim.momentum and optim.name not in with_momentum:
        raise UserError(f"config.optim.momentum: {optim.name} has none; expected one of {', '.join(with_momentum)}")
    if optim.nesterov and not optim.momentum and optim.name is not Optimizer.MUON:
        raise UserError("config.optim.nesterov: needs config.optim.momentum above 0")
    if optim.nesterov and optim.name is Optimizer.RMSPROP:
        raise UserError("config.optim.nesterov: rmsprop has none; expected sgd or muon")
    decaying = (Optimizer.ADAMW, Optimizer.LION, Optimizer.MUON, Optimizer.SGD)
    if (optim.weight_decay or any(group.weight_decay for group in optim.groups)) and optim.name not in decaying:
        hint = "use --config.optim.name=adamw" if optim.name is Optimizer.ADAM else f"expected one of {', '.join(decaying)}"
        raise UserError(f"config.optim.weight_decay: {optim.name} has none; {hint}")
    rising = (optim.warmup_epochs, *optim.boundaries)
    if optim.schedule is Schedule.PIECEWISE and tuple(sorted(set(rising))) != rising:
        raise UserError(f"config.optim.boundaries: expected rising epochs after warm-up, not {optim.boundaries}")
