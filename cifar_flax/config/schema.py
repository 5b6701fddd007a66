"""The fields of an experiment, with type, default, range and meaning; `validate` checks how they go together.

A config file in `configs/` returns a `Config` that differs from the defaults where the experiment does; single values are
overridden on the command line: `--config.optim.learning_rate=3e-4`. The dataclasses are plain; pydantic reads types and
ranges off their annotations when `serialize` checks one. The fields of a network or an optimizer are in its own spec.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from cifar_flax.config.registry import MODELS, OPTIMIZERS
from cifar_flax.config.specs import ModelSpec, OptimizerSpec
from cifar_flax.config.types import (
    INT32_MAX,
    Auto,
    Balance,
    ConfigBase,
    Count,
    DataSource,
    Degrees,
    Dtype,
    Epochs,
    FillMode,
    Monitor,
    NonNegative,
    Normalization,
    Patience,
    Pixels,
    Policy,
    Positive,
    Probability,
    Seed,
    UnitIntervalOpen,
)
from cifar_flax.errors import UserError


@dataclass(slots=True)
class DataConfig(ConfigBase):
    """The images, and which of them are held out."""

    # shapes100, cifar100, any TFDS image-classification set, folder:PATH, hf:USER/NAME, or module:function
    name: str = "shapes100"
    image_size: Annotated[int, Ge(4), Le(1024)] | None = None  # pixels a side; None: 32 for folders and hf:, the own of others
    test_fraction: UnitIntervalOpen = 0.2  # of a folder:PATH without splits, stratified, always the same pictures
    validation_fraction: UnitIntervalOpen = 0.1  # of train, stratified; a validation split of its own takes its place; 0: none
    folds: Annotated[int, Ge(2), Le(INT32_MAX)] | None = None  # cross-validation: of this many stratified parts of train, ...
    fold: Annotated[int, Ge(0), Le(INT32_MAX)] = 0  # ... the one that is held out, in place of `validation_fraction`
    split_seed: Seed = 0  # chooses the validation images; apart from `seed`, so that seeds share one split
    normalization: Normalization = Normalization.STANDARDIZE
    class_weights: Balance = Balance.NONE  # of the loss; balanced: images / (classes * images of the class)
    sampling: Balance = Balance.NONE  # of batches; balanced: all classes equally often, images of small ones repeatedly
    source: DataSource = DataSource.AUTO  # where batches are gathered; the same bits from all

    @property
    def validates(self) -> bool:
        """Whether images are held out for validation."""
        return self.folds is not None or self.validation_fraction > 0


@dataclass(slots=True)
class AugmentConfig(ConfigBase):
    """Random changes to training images, in the order of the fields, mixup and cutmix last; each image has its own draws."""

    flip: bool = False  # mirror left-right with probability 1/2
    alternating_flip: bool = False  # `flip`: each image every other epoch instead, half of them in the even ones
    rotation: Degrees = 0.0  # largest, either way
    width_shift: UnitIntervalOpen = 0.0  # largest, either way, of the width; with subpixels
    height_shift: UnitIntervalOpen = 0.0
    zoom: UnitIntervalOpen = 0.0  # scales of height and of width, drawn apart from [1 - zoom, 1 + zoom]
    fill_mode: FillMode = FillMode.NEAREST  # what rotation, shift and zoom bring into the picture
    fill_value: Probability = 0.0  # of fill_mode constant
    crop_padding: Pixels = 0  # pixels of padding before a random crop to the old size
    crop_fill_mode: FillMode = FillMode.CONSTANT  # what the padding shows: constant is black
    policy: Policy = Policy.NONE
    rand_augment_layers: Annotated[int, Ge(1), Le(8)] = 2  # operations an image
    rand_augment_magnitude: Annotated[int, Ge(0), Le(30)] = 9  # of each, in thirtieths of its range
    brightness: UnitIntervalOpen = 0.0  # factor drawn from [1 - brightness, 1 + brightness]; so too the next two
    contrast: UnitIntervalOpen = 0.0
    saturation: UnitIntervalOpen = 0.0
    hue: Annotated[float, Ge(0), Le(0.5)] = 0.0  # largest turn of the colour circle, either way, in turns
    cutout: Pixels = 0  # pixels a side of a square set to grey; the paper has 16 for CIFAR-10, 8 for CIFAR-100
    random_erasing: Probability = 0.0  # probability of a random rectangle of noise
    mixup: NonNegative = 0.0  # alpha of the Beta distribution of the weights; 0 is off, the paper has 1 for CIFAR
    cutmix: NonNegative = 0.0  # alpha of the Beta distribution of the areas; where both are on, each batch takes one of them
    mix_probability: Probability = 1.0  # share of the images to which mixup or cutmix is done
    # Registered names, or module:name of (key, images float32 [N, H, W, C] in [0, 1]) -> images; before mixup and cutmix.
    custom: tuple[str, ...] = ()


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

    until: Probability = 0.5  # share of all updates after which the next resolution, or the images' own, takes over
    size: Annotated[int, Ge(4), Le(1024)] = 16  # pixels a side


@dataclass(slots=True)
class TrainConfig(ConfigBase):
    """Length, batches and precision of a training."""

    epochs: Epochs = 10  # 8.75, say, ends within the ninth
    batch_size: Count = 128  # over all devices together
    eval_batch_size: Count = 500  # over all devices together; rounded up to a multiple of their number
    resolutions: tuple[ResolutionConfig, ...] = ()  # with rising `until`, square; validation is at the images' own size
    init_from: str = ""  # RUN, pretrained:NAME or FILE, of the same normalization; what fits by name and shape is taken
    teacher: str = ""  # network as in init_from, of the same classes, whose predictions are a part of the targets
    teacher_weight: Probability = 0.5  # that part
    teacher_temperature: Positive = 1.0  # beside the teacher's own, by which its percentages are calibrated
    microbatches: Count = 1  # parts that each batch is computed in, one after another, to need less memory
    steps_per_dispatch: Count | Auto = "auto"  # at most, in one compiled program; auto: 1 on a CPU, at most 32 on accelerators
    vmap_seeds: bool | Auto = "auto"  # train all seeds in one program; auto: on accelerators
    num_seeds: Count = 1  # runs with the seeds `seed`, `seed` + 1 and so on, each in a folder of its own; then mean and sd
    dtype: Dtype = Dtype.AUTO  # of activations and gradients; params, statistics and optimizer state are float32


@dataclass(slots=True)
class CheckpointConfig(ConfigBase):
    """Times of saving, and number of checkpoints that are kept."""

    every_minutes: NonNegative = 5.0  # within an epoch; one is always written at its end
    every_steps: Count | None = None  # within an epoch, besides; at the end of the dispatch in which it is due
    keep_latest: Count = 2  # and the best


@dataclass(slots=True)
class LogConfig(ConfigBase):
    """Records of the training."""

    every_steps: Count = 50  # steps between the training records in metrics.jsonl
    writers: tuple[str, ...] = ("tensorboard",)  # besides metrics.jsonl: tensorboard, wandb, mlflow, module:name of your own
    pictures: bool = True  # for the writers: first-layer weights each epoch, confusion and predictions at the end


def _default_model() -> ModelSpec:
    return MODELS.resolve("convnet", "config.model")()


def _default_optimizer() -> OptimizerSpec:
    return OPTIMIZERS.resolve("adam", "config.optim")()


@dataclass(slots=True)
class Config(ConfigBase):
    """An experiment."""

    seed: Seed = 0  # of initialisation, shuffling, augmentation and dropout
    loss: str = "cross_entropy"  # a registered name, or module:name of (logits, targets) float32 [N, C] -> losses float32 [N]
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelSpec = field(default_factory=_default_model)
    optim: OptimizerSpec = field(default_factory=_default_optimizer)
    plateau: PlateauConfig = field(default_factory=PlateauConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)


Variants = Mapping[str, Callable[[Config], object]]  # name -> a function that changes the config in place


def apply_variant(config: Config, variant: str, variants: Variants) -> Config:
    """Applies the variant of a config file that `--config=FILE.py:VARIANT` asks for; "" is the file's own recipe.

    Raises:
      UserError: there is no such variant; the message lists them.
    """
    if variant:
        if variant not in variants:
            raise UserError(f"no variant {variant!r}; expected one of {', '.join(variants) or 'none'}")
        variants[variant](config)
    return config
