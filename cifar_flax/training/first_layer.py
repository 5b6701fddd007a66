"""The weights of the layer that sees the image, as a picture: what TensorBoard shows of each epoch."""

import math
from typing import Any

import jax
import numpy as np

SHOWN = 64  # filters
SCALE = 6  # pixels of the picture a weight


def first_layer_picture(params: Any, image_shape: tuple[int, int, int]) -> np.ndarray | None:
    """A grid of filters, or of the units of a dense layer, each scaled to its own largest weight; grey is 0.

    Args:
      params: tree of parameters.
      image_shape: (H, W, C) of what the network sees.

    Returns:
      uint8 [H', W', C]; None where no layer sees the image as it is, or where it has other than 1 or 3 channels.
    """
    size, channels = math.prod(image_shape), image_shape[-1]
    kernels = (np.asarray(leaf) for leaf in jax.tree.leaves(params) if np.ndim(leaf) > 1)
    fits = (k for k in kernels if (k.ndim == 4 and k.shape[2] == channels) or (k.ndim == 2 and len(k) == size))
    kernel = next(fits, None)
    if kernel is None or channels not in (1, 3):
        return None
    filters = np.moveaxis(kernel.reshape(*image_shape, -1) if kernel.ndim == 2 else kernel, -1, 0)[:SHOWN]
    largest = np.abs(filters).max((1, 2, 3), keepdims=True)
    return _grid(np.rint(127.5 + 127.5 * filters / np.where(largest > 0, largest, 1)).astype(np.uint8))


def _grid(images: np.ndarray) -> np.ndarray:
    """Images [N, h, w, C] side by side in rows of 8, a white line between them."""
    n, height, width, channels = images.shape
    columns = min(8, n)
    rows = -(-n // columns)
    cells = np.full((rows * columns, height * SCALE + 2, width * SCALE + 2, channels), 255, np.uint8)
    cells[:n, :-2, :-2] = images.repeat(SCALE, 1).repeat(SCALE, 2)
    cells = cells.reshape(rows, columns, *cells.shape[1:]).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * cells.shape[1], columns * cells.shape[3], channels)
