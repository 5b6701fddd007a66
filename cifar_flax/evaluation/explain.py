"""Which pixels a prediction rests on: the gradient of its logit, and occlusion."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cifar_flax.data.preprocessing import Preprocessing, to_unit
from cifar_flax.evaluation.predict import views
from cifar_flax.models import Variables
from cifar_flax.runtime import compilation

GREY = 128  # of the square that covers a part of the image
Saliency = Callable[[Variables, np.ndarray, int], jax.Array]


def make_gradient_saliency(model: nn.Module, preprocessing: Preprocessing, dtype: Any, tta: str = "none") -> Saliency:
    """Builds the jitted (variables, image uint8 [H, W, C], label) -> float32 [H, W].

    The value of a pixel is the size of the gradient of the label's logit with respect to its brightness in [0, 1], the largest
    over the channels. With a `tta` of `runtime.flag_values.TTA`, the logit is the mean over its views.

    References:
      Simonyan et al., "Deep Inside Convolutional Networks", ICLR workshop 2014, section 3.
    """

    def saliency(variables: Variables, image: jax.Array, label: jax.Array) -> jax.Array:
        def logit(pixels: jax.Array) -> Any:
            mean: Any = 0
            for view, weight in views(preprocessing.standardize(pixels)[None], tta):
                logits: Any = model.apply(variables, view, train=False)
                mean += weight * logits
            return mean[0, label]

        return jnp.abs(jax.grad(logit)(to_unit(image))).max(-1)

    return compilation.jit(saliency, dtype)


def occlusion(
    probabilities: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray, size: int, stride: int
) -> np.ndarray:
    """The probability that a class loses while a grey square covers a part of the image.

    Args:
      probabilities: from uint8 [N, H, W, C] to float32 [N, num_classes].
      images: uint8 [N, H, W, C].
      labels: int [N], the class of each.
      size: side of the square, in pixels.
      stride: distance between neighbouring squares, in pixels; the last one of a row or column is closer where it would
        otherwise not end at the edge.

    Returns:
      float32 [N, rows, columns], a value a square; negative where the class is likelier without what is covered.

    References:
      Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2.
    """
    rows, columns = (_starts(side, size, stride) for side in images.shape[1:3])
    covered = np.repeat(images[:, None], len(rows) * len(columns) + 1, axis=1)  # the first of each stays as it is
    for k, (row, column) in enumerate(((i, j) for i in rows for j in columns), 1):
        covered[:, k, row : row + size, column : column + size] = GREY
    probs = probabilities(covered.reshape(-1, *images.shape[1:]))
    of_label = np.take_along_axis(probs.reshape(*covered.shape[:2], -1), np.asarray(labels)[:, None, None], axis=2)[..., 0]
    return (of_label[:, :1] - of_label[:, 1:]).reshape(len(images), len(rows), len(columns))


def default_squares(image_shape: tuple[int, ...], size: int | None = None) -> tuple[int, int]:
    """Side and distance of squares, in pixels: a quarter of an image [H, W, C], or `size`; and half of that."""
    size = max(1, min(image_shape[:2]) // 4) if size is None else size
    return size, max(1, size // 2)


def squares_to_pixels(values: np.ndarray, height: int, width: int, size: int, stride: int) -> np.ndarray:
    """The mean over the squares that cover a pixel.

    Args:
      values: float32 [rows, columns], a value a square, as `occlusion` returns them.
      height: of the image, in pixels.
      width: of the image, in pixels.
      size: side of the squares, in pixels.
      stride: distance between neighbouring squares, in pixels.

    Returns:
      float32 [height, width]; 0 where no square covers the pixel, as where they are further apart than their size.
    """
    sums, counts = np.zeros((2, height, width), np.float32)
    rows, columns = _starts(height, size, stride), _starts(width, size, stride)
    for (i, j), value in np.ndenumerate(values):
        square = np.s_[rows[i] : rows[i] + size, columns[j] : columns[j] + size]
        sums[square] += value
        counts[square] += 1
    return sums / np.maximum(counts, 1)


def _starts(side: int, size: int, stride: int) -> list[int]:
    """The first pixels of squares along a side; the last square ends at the edge."""
    return [*range(0, side - size, stride), side - size]
