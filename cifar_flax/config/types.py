"""The words and the ranges that config fields take."""

import enum
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict

Fraction = Annotated[float, Ge(0), Lt(1)]  # [0, 1)
Share = Annotated[float, Ge(0), Le(1)]  # [0, 1]
Half = Annotated[float, Ge(0), Le(0.5)]  # [0, 0.5]
Degrees = Annotated[float, Ge(0), Le(180)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
# Above these limits there is no experiment, only a program that takes hours to build or a number that int32 does not hold.
INT32_MAX = 2**31 - 1
Count = Annotated[int, Ge(1), Le(INT32_MAX)]
Channels = Annotated[int, Ge(1), Le(2**16)]
Kernel = Annotated[int, Ge(1), Le(63)]  # pixels
Window = Annotated[int, Ge(1), Le(32)]  # pixels
Repeats = Annotated[int, Ge(1), Le(100)]
Size = Annotated[int, Ge(0), Le(512)]  # pixels
Patience = Annotated[int, Ge(0), Le(INT32_MAX)]  # epochs
Auto = Literal["auto"]
Seed = Annotated[int, Ge(0), Lt(2**32)]


class ConfigBase:
    """Base of the config dataclasses: no fields beyond the declared, no conversions but int to float, no NaN."""

    __slots__ = ()
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Normalization(enum.StrEnum):
    """What is done to pixels before the network sees them."""

    UNIT = "unit"  # pixels / 255, as the write-ups do
    STANDARDIZE = "standardize"  # then minus the mean, over the standard deviation, of each channel of the training images


class Architecture(enum.StrEnum):
    """The network families."""

    CONVNET = "convnet"  # plain convolutions and dense layers
    SPEEDNET = "speednet"  # the CIFAR speed runs': a whitening stem, then stages
    RESNET = "resnet"


class Activation(enum.StrEnum):
    """Activation functions."""

    LINEAR = "linear"
    RELU = "relu"
    ELU = "elu"
    GELU = "gelu"
    SILU = "silu"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    HARD_SIGMOID = "hard_sigmoid"  # Keras 2's: clip(0.2 x + 0.5, 0, 1)


class FillMode(enum.StrEnum):
    """What lies outside a picture that is shifted, rotated or zoomed; names and patterns as in Keras' ImageDataGenerator."""

    NEAREST = "nearest"  # aaaa|abcd|dddd
    REFLECT = "reflect"  # dcba|abcd|dcba
    CONSTANT = "constant"  # kkkk|abcd|kkkk
    WRAP = "wrap"  # abcd|abcd|abcd


class Policy(enum.StrEnum):
    """Ready-made mixtures of augmentations."""

    NONE = "none"
    RAND_AUGMENT = "rand_augment"
    TRIVIAL_AUGMENT = "trivial_augment"


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
    TORCH_UNIFORM = "torch_uniform"  # what PyTorch uses: within 1 / sqrt(inputs) of 0
    DIRAC = "dirac"  # convolutions hand on their input channels first, other filters as in torch_uniform


class Features(enum.StrEnum):
    """How the last feature map becomes the vector that the dense layers see."""

    FLATTEN = "flatten"
    MEAN = "mean"
    MAX = "max"
    MAX_PLUS_MEAN = "max_plus_mean"


class Optimizer(enum.StrEnum):
    """Update rules."""

    ADAM = "adam"
    ADAMW = "adamw"
    ADAMAX = "adamax"
    ADAGRAD = "adagrad"
    ADADELTA = "adadelta"
    RMSPROP = "rmsprop"
    LION = "lion"
    MUON = "muon"
    MUON_SGD = "muon_sgd"  # for convolution kernels and for all else, each with a learning rate of its own
    SGD = "sgd"


class Schedule(enum.StrEnum):
    """Learning rate over time."""

    CONSTANT = "constant"
    INVERSE_TIME = "inverse_time"  # Keras' `decay`: lr / (1 + decay * step)
    EXPONENTIAL = "exponential"
    PIECEWISE = "piecewise"
    COSINE = "cosine"
    LINEAR = "linear"
    ONE_CYCLE = "one_cycle"


class Monitor(enum.StrEnum):
    """The validation score that says whether an epoch was better than those before."""

    LOSS = "loss"  # lower is better
    TOP1 = "top1"  # higher is better


class DataSource(enum.StrEnum):
    """Where the images of a split lie while it is trained on."""

    AUTO = "auto"  # resident where the split fits beside the training state, else streamed
    RESIDENT = "resident"  # as uint8 in the memory of every device, gathered by the compiled step
    STREAMED = "streamed"  # in the memory-mapped cache, gathered on the host and copied ahead of the step


class Dtype(enum.StrEnum):
    """Of activations and gradients."""

    AUTO = "auto"  # bfloat16 on accelerators, float32 on CPU
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
