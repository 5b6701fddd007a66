"""Enums and range-constrained types used by the config dataclasses."""

import enum
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict

Probability = Annotated[float, Ge(0), Le(1)]
UnitIntervalOpen = Annotated[float, Ge(0), Lt(1)]  # [0, 1)
Degrees = Annotated[float, Ge(0), Le(180)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
# Larger numbers make programs that take hours to build, or do not fit int32.
INT32_MAX = 2**31 - 1
Count = Annotated[int, Ge(1), Le(INT32_MAX)]
Channels = Annotated[int, Ge(1), Le(2**16)]
Kernel = Annotated[int, Ge(1), Le(63)]  # pixels
Repeats = Annotated[int, Ge(1), Le(100)]
Pixels = Annotated[int, Ge(0), Le(512)]
Epochs = Annotated[int | float, Gt(0), Le(INT32_MAX)]  # training may end within one
Patience = Annotated[int, Ge(0), Le(INT32_MAX)]  # epochs
Auto = Literal["auto"]
SEEDS = 2**32  # of which each is a uint32
Seed = Annotated[int, Ge(0), Lt(SEEDS)]


class ConfigBase:
    """Base of the config dataclasses: no fields beyond the declared, no conversions but int to float, no NaN."""

    __slots__ = ()
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Normalization(enum.StrEnum):
    """Preprocessing of pixels."""

    UNIT = "unit"  # pixels / 255, as in the blog posts
    STANDARDIZE = "standardize"  # pixels / 255, minus the mean, over the standard deviation, of each training channel


class Activation(enum.StrEnum):
    """Activation functions."""

    LINEAR = "linear"
    RELU = "relu"
    ELU = "elu"
    GELU = "gelu"
    SILU = "silu"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    HARD_SIGMOID = "hard_sigmoid"  # as in Keras 2: clip(0.2 x + 0.5, 0, 1)


class FillMode(enum.StrEnum):
    """Pixels outside a picture that is shifted, rotated or zoomed; named as in the ImageDataGenerator of Keras."""

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
    """Padding of a convolution."""

    SAME = "SAME"
    VALID = "VALID"


class BatchNorm(enum.StrEnum):
    """The places of BatchNorm in a block."""

    NONE = "none"
    CONV = "conv"  # after every convolution, before its activation
    BLOCK = "block"  # once, at the end of the block, before pooling


class Initializer(enum.StrEnum):
    """Kernel initializer; biases are zero-initialized."""

    GLOROT_UNIFORM = "glorot_uniform"  # the default of Keras
    HE_NORMAL = "he_normal"
    LECUN_NORMAL = "lecun_normal"  # the default of Flax
    TORCH_UNIFORM = "torch_uniform"  # the default of PyTorch: within 1 / sqrt(inputs) of 0
    DIRAC = "dirac"  # the first outputs of a convolution are its inputs; other filters as in torch_uniform


class GlobalPool(enum.StrEnum):
    """Reduction of the last feature map to one vector, the input of the dense layers."""

    FLATTEN = "flatten"
    MEAN = "mean"
    MAX = "max"
    MAX_PLUS_MEAN = "max_plus_mean"


class Monitor(enum.StrEnum):
    """The validation score that says whether an epoch was better than those before."""

    LOSS = "loss"  # lower is better
    TOP1 = "top1"  # higher is better


class Balance(enum.StrEnum):
    """Weights of classes of different size."""

    NONE = "none"
    BALANCED = "balanced"  # each class counts the same


class DataSource(enum.StrEnum):
    """Place of the images of a split while it is trained on."""

    AUTO = "auto"  # resident where the split takes at most half of a device's memory, else streamed
    RESIDENT = "resident"  # as uint8 in the memory of every device, gathered by the compiled step
    STREAMED = "streamed"  # in the memory-mapped cache, gathered on the host and copied ahead of the step


class Dtype(enum.StrEnum):
    """Compute dtype: that of activations and gradients."""

    AUTO = "auto"  # bfloat16 where the hardware multiplies it fast, docs/performance.md says which; else float32
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
