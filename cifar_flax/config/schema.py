"""Every knob, with its type, default, range and meaning; `config_checks` refuses what makes no sense together.

A config file in `configs/` returns a `Config` that differs from the defaults where the experiment does; single values are
overridden on the command line: `--config.optim.learning_rate=3e-4`. The dataclasses are plain; pydantic reads types and
ranges off their annotations when `config_file` validates one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from cifar_flax.config.types import (
    INT32_MAX,
    Activation,
    Architecture,
    Auto,
    BatchNorm,
    Channels,
    ConfigBase,
    Count,
    DataSource,
    Degrees,
    Dtype,
    Features,
    FillMode,
    Fraction,
    Half,
    Initializer,
    Kernel,
    Monitor,
    NonNegative,
    Normalization,
    Optimizer,
    Padding,
    Patience,
    Policy,
    Positive,
    Repeats,
    Schedule,
    Seed,
    Share,
    Size,
    Window,
)
from cifar_flax.errors import UserError


@dataclass(slots=True)
class DataConfig(ConfigBase):
    """Which images, and which of them are held out."""

    name: str = "shapes100"  # shapes100, cifar100, cifar10, any TFDS image-classification set, or folder:PATH
    image_size: Annotated[int, Ge(4), Le(1024)] | None = None  # pixels a side; None keeps the set's own (folders: 32)
    validation_fraction: Fraction = 0.1  # of train, stratified; 0 trains on all of it
    folds: Annotated[int, Ge(2), Le(INT32_MAX)] | None = None  # cross-validation: of this many stratified parts of train, ...
    fold: Annotated[int, Ge(0), Le(INT32_MAX)] = 0  # ... the one that is held out, in place of `validation_fraction`
    split_seed: Seed = 0  # chooses the validation images; apart from `seed`, so that seeds share one split
    normalization: Normalization = Normalization.STANDARDIZE
    source: DataSource = DataSource.AUTO  # where batches are gathered; the same bits from all


@dataclass(slots=True)
class AugmentConfig(ConfigBase):
    """Random changes to training images, in the order of the fields; each image has its own draws."""

    flip: bool = False  # mirror left-right with probability 1/2
    alternating_flip: bool = False  # `flip`: each image every other epoch instead, half of them in the even ones
    rotation: Degrees = 0.0  # largest, either way
    width_shift: Fraction = 0.0  # largest, either way, of the width; with subpixels
    height_shift: Fraction = 0.0
    zoom: Fraction = 0.0  # scales of height and of width, drawn apart from [1 - zoom, 1 + zoom]
    fill_mode: FillMode = FillMode.NEAREST  # what rotation, shift and zoom bring into the picture
    fill_value: Share = 0.0  # of fill_mode constant
    crop_padding: Size = 0  # pixels of padding before a random crop to the old size
    crop_fill_mode: FillMode = FillMode.CONSTANT  # what the padding shows: constant is black
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
class BlockConfig(ConfigBase):
    """Convolutions, each with its activation, then pooling and dropout. A tuple of one is used for every convolution."""

    features: tuple[Channels, ...] = (64,)  # output channels, one entry a convolution
    kernel_sizes: tuple[Kernel, ...] = (3,)
    paddings: tuple[Padding, ...] = (Padding.SAME,)
    activations: tuple[Activation, ...] = ()  # empty: the model's activation
    batch_norm: BatchNorm = BatchNorm.NONE
    pool: Window = 2  # max-pooling window and stride; 1 is none
    dropout: Fraction = 0.0  # after pooling


@dataclass(slots=True)
class DenseConfig(ConfigBase):
    """One hidden fully connected layer."""

    features: Channels = 512
    activation: Activation | None = None  # None: the model's activation
    dropout: Fraction = 0.0  # after the activation


@dataclass(slots=True)
class StageConfig(ConfigBase):
    """Of a speednet: a convolution, 2x2 max pooling, BatchNorm and activation, then a branch of further convolutions."""

    features: Channels = 64  # output channels of the first convolution
    kernel_size: Kernel = 3
    branch_features: tuple[Channels, ...] = (64,)  # one entry a convolution, each with BatchNorm and activation
    branch_kernel_sizes: tuple[Kernel, ...] = (3,)  # likewise
    residual: bool = False  # add what the branch began with to its end


@dataclass(slots=True)
class ResNetConfig(ConfigBase):
    """Of a residual network of basic blocks, two 3x3 convolutions each; every stage but the first halves the map."""

    stem: Channels = 64  # channels of the first convolution
    features: tuple[Channels, ...] = (64, 128, 256, 512)  # channels of each stage
    blocks: tuple[Repeats, ...] = (2, 2, 2, 2)  # in each stage
    preactivation: bool = False  # BatchNorm and activation before each convolution, as in wide residual networks
    dropout: Fraction = 0.0  # between the convolutions of a block


@dataclass(slots=True)
class ModelConfig(ConfigBase):
    """The network."""

    name: Architecture = Architecture.CONVNET
    activation: Activation = Activation.RELU
    blocks: tuple[BlockConfig, ...] = ()  # of a convnet
    stages: tuple[StageConfig, ...] = ()  # of a speednet
    resnet: ResNetConfig = field(default_factory=ResNetConfig)  # of a resnet
    features: Features = Features.FLATTEN
    dense: tuple[DenseConfig, ...] = ()  # hidden layers; the logits come after them
    logit_scale: Positive = 1.0  # what a speednet's logits are multiplied with
    kernel_init: Initializer = Initializer.GLOROT_UNIFORM
    batch_norm_momentum: Fraction = 0.99  # of the running statistics: old * m + new * (1 - m)
    batch_norm_epsilon: Positive = 1e-3


@dataclass(slots=True)
class GroupConfig(ConfigBase):
    """Settings of the parameters whose path, such as `block0_conv0/kernel`, matches a shell pattern."""

    pattern: str = "*"
    learning_rate: NonNegative = 1.0  # times the common rate
    weight_decay: NonNegative | None = None  # None: the common one


@dataclass(slots=True)
class MuonConfig(ConfigBase):
    """The part of muon_sgd that updates convolution kernels; the schedule is that of `optim.learning_rate`."""

    learning_rate: Positive = 0.18  # the schedule's peak
    momentum: Fraction = 0.6  # Nesterov's
    newton_schulz_steps: Repeats = 3


@dataclass(slots=True)
class OptimConfig(ConfigBase):
    """Loss, update rule and learning rate."""

    name: Optimizer = Optimizer.ADAM
    learning_rate: Positive = 1e-3  # the schedule's peak
    b1: Fraction = 0.9  # Adam, AdamW, Adamax, Lion, Muon's Adam
    b2: Fraction | None = None  # likewise; None is .999, for Lion .99
    eps: Positive = 1e-7  # of all that divide by a norm; Keras' default
    rho: Fraction | None = None  # RMSprop, Adadelta: forgetting of the squares; None is Keras' .9 and .95
    momentum: Fraction | None = None  # SGD, RMSprop: None is 0; Muon: None is .95
    nesterov: bool = False  # SGD, Muon
    muon: MuonConfig = field(default_factory=MuonConfig)  # of muon_sgd
    weight_decay: NonNegative = 0.0  # AdamW, Lion, Muon: decoupled; SGD: added to the gradient; kernels only
    groups: tuple[GroupConfig, ...] = ()  # the first whose pattern matches a parameter holds
    freeze: tuple[str, ...] = ()  # patterns of parameters that stay as they are, BatchNorm's statistics with them
    sam_rho: NonNegative = 0.0  # sharpness-aware minimisation: how far up the slope the gradient is taken; 0 is off
    clip_norm: Positive | None = None  # largest global norm of the gradient
    label_smoothing: Fraction = 0.0
    ema_decay: Fraction | None = None  # of params and batch statistics; evaluation then uses them

    schedule: Schedule = Schedule.CONSTANT
    warmup_epochs: NonNegative = 0.0  # linear, before the schedule starts
    initial_fraction: Share = 0.0  # first rate / peak, of the warm-up (one_cycle has its own: 1 / 25)
    decay: NonNegative = 0.0  # inverse_time: per step
    decay_rate: Annotated[float, Gt(0), Le(1)] = 0.96  # exponential: factor per epoch; piecewise: factor per boundary
    boundaries: tuple[Positive, ...] = ()  # piecewise: epochs at which the rate falls
    final_fraction: Share = 0.0  # cosine, linear: last rate / peak


@dataclass(slots=True)
class PlateauConfig(ConfigBase):
    """Lowers the learning rate, on top of its schedule, when validation stops improving: Keras' ReduceLROnPlateau."""

    patience: Patience = 0  # epochs without improvement after which the rate falls; 0 is off
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1  # new rate / old
    cooldown: Patience = 0  # epochs after a fall in which none is counted
    min_delta: NonNegative = 1e-4  # what counts as an improvement
    min_learning_rate: NonNegative = 0.0
    monitor: Monitor = Monitor.LOSS


@dataclass(slots=True)
class EarlyStoppingConfig(ConfigBase):
    """Ends training when validation stops improving; the best checkpoint stays."""

    patience: Patience = 0  # epochs without improvement after which training ends; 0 is off
    min_delta: NonNegative = 0.0
    monitor: Monitor = Monitor.LOSS


@dataclass(slots=True)
class ResolutionConfig(ConfigBase):
    """Training on smaller images in the beginning: progressive resizing."""

    until: Share = 0.5  # share of all updates after which the next resolution, or the images' own, takes over
    size: Annotated[int, Ge(4), Le(1024)] = 16  # pixels a side


@dataclass(slots=True)
class TrainConfig(ConfigBase):
    """How long, in what portions and with what precision."""

    epochs: Count = 10
    batch_size: Count = 128  # over all devices together
    eval_batch_size: Count = 500  # over all devices together; rounded up to a multiple of their number
    resolutions: tuple[ResolutionConfig, ...] = ()  # with rising `until`; validation is at the images' own size
    init_from: str = ""  # a run directory or pretrained:NAME, of the same normalization; what fits by name and shape is taken
    microbatches: Count = 1  # parts that each batch is computed in, one after another, to need less memory
    steps_per_dispatch: Count | Auto = "auto"  # steps in one compiled program; auto: 1 on a CPU, up to 32 on accelerators
    vmap_seeds: bool | Auto = "auto"  # train all seeds in one program; auto: on accelerators
    num_seeds: Count = 1  # runs with the seeds `seed`, `seed` + 1 and so on, each in a folder of its own; then mean and sd
    dtype: Dtype = Dtype.AUTO  # of activations and gradients; params, statistics and optimizer state are float32


@dataclass(slots=True)
class CheckpointConfig(ConfigBase):
    """When the state is saved and what is kept."""

    every_minutes: NonNegative = 5.0  # within an epoch; one is always written at its end
    every_steps: Count | None = None  # within an epoch, besides
    keep_latest: Count = 2  # and the best


@dataclass(slots=True)
class LogConfig(ConfigBase):
    """What is written down along the way."""

    every_steps: Count = 50  # steps between the training records in metrics.jsonl
    tensorboard: bool = True
    pictures: bool = True  # in TensorBoard: first-layer weights each epoch, confusion and predictions at the end


@dataclass(slots=True)
class Config(ConfigBase):
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


def apply_variant(config: Config, variant: str, variants: Variants) -> Config:
    """Applies the variant of a config file that `--config=FILE.py:VARIANT` asks for; "" is the file's own recipe.

    Raises:
      UserError: there is no such variant; those that there are are named.
    """
    if variant:
        if variant not in variants:
            raise UserError(f"no variant {variant!r}; expected one of {', '.join(variants) or 'none'}")
        variants[variant](config)
    return config
