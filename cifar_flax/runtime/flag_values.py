"""Enums whose values are both arguments in Python and values of flags, which are checked before anything slow is imported."""

import enum


class Fit(enum.StrEnum):
    """Fitting of a picture of another shape to the network's; the pictures of a data set are cropped."""

    CROP = "crop"  # the largest part in the middle that has the shape
    SQUASH = "squash"  # all of it, stretched
    PAD = "pad"  # all of it, with borders in the mean colour of the training images


class TTA(enum.StrEnum):
    """Test-time augmentation: the views of an image whose logits are averaged, see `evaluation.predict.views`."""

    NONE = "none"
    FLIP = "flip"
    FLIP_SHIFT = "flip+shift"


class Format(enum.StrEnum):
    """Formats that `export` writes."""

    SAFETENSORS = "safetensors"  # weights with config, preprocessing and figures; cifar_flax.load_network reads it
    HUGGINGFACE = "huggingface"  # a folder: the same file with a model card and config.json; load_network reads it too
    STABLEHLO = "stablehlo"  # the whole computation from bytes to logits; jax.export.deserialize reads it
    ONNX = "onnx"  # the same computation; ONNX Runtime and others read it


STORED = (Format.SAFETENSORS, Format.HUGGINGFACE)  # formats that are weights; the others are computations, in float32


class KernelDtype(enum.StrEnum):
    """Dtype of kernels in a file; statistics and biases are float32 in any, and whole numbers what they are."""

    FLOAT32 = "float32"  # loses nothing
    BFLOAT16 = "bfloat16"  # half the size, 8 bits of precision, the range of float32
    FLOAT16 = "float16"  # half the size, 11 bits of precision, up to 65,504
