"""The kernels of the layer that reads the image, and a picture of them."""

import math
from typing import Any

import jax
import numpy as np

SHOWN, COLUMNS = 64, 8  # kernels in a picture, and in a row of it
SCALE, GAP = 6, 2  # pixels per weight, and between kernels


def first_layer_kernels(params: Any, image_shape: tuple[int, int, int]) -> np.ndarray | None:
    """Finds the filters of the first convolution, or the units of a first dense layer that reads all pixels.

    The layer is recognised by the shape of its kernel; where several match, it is the first by name.

    Args:
      params: tree of parameters.
      image_shape: (H, W, C) of the network's input.

    Returns:
      float32 [F, h, w, C], in the layer's order; h, w = H, W for a dense layer. None where no kernel has such a shape, or where
      the image has neither 1 nor 3 channels and so would be no picture.
    """
    pixels, channels = math.prod(image_shape), image_shape[-1]
    kernels = (np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(params) if np.ndim(leaf) in (2, 4))
    matches = (k for k in kernels if (k.shape[2] == channels if k.ndim == 4 else len(k) == pixels))
    kernel = next(matches, None)
    if kernel is None or channels not in (1, 3):
        return None
    return np.moveaxis(kernel.reshape(*image_shape, -1) if kernel.ndim == 2 else kernel, -1, 0)


def kernel_grid(kernels: np.ndarray) -> np.ndarray:
    """Draws the first 64 kernels in rows of eight, white lines between them; grey is 0, each is scaled by its largest weight.

    Args:
      kernels: float32 [F, h, w, C] from `first_layer_kernels`.

    Returns:
      uint8 [H', W', C], six pixels per weight.
    """
    shown = kernels[:SHOWN]
    largest = np.abs(shown).max((1, 2, 3), keepdims=True)
    images = np.rint(127.5 + 127.5 * shown / np.where(largest > 0, largest, 1)).astype(np.uint8)
    n, height, width, channels = images.shape
    columns = min(COLUMNS, n)
    rows = -(-n // columns)
    cells = np.full((rows * columns, height * SCALE + GAP, width * SCALE + GAP, channels), 255, np.uint8)
    cells[:n, :-GAP, :-GAP] = images.repeat(SCALE, 1).repeat(SCALE, 2)
    grid = cells.reshape(rows, columns, *cells.shape[1:]).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * cells.shape[1], columns * cells.shape[2], channels)
