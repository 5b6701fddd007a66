"""The kernels of the layer that reads the image, and a picture of them."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

SHOWN, COLUMNS = 64, 8  # kernels in a picture, and in a row of it
SCALE, GAP, FRAME = 6, 2, 160  # pixels per weight, and between kernels; the grey of these


def find_first_kernel(model: nn.Module, variables: Any, image_shape: tuple[int, int, int]) -> tuple[str, ...] | None:
    """Finds the kernel of the first convolution, or of a first dense layer that reads all pixels.

    It is the first in the order of calls whose shape fits an image that its module is given: names have an order of their own,
    and a depthwise kernel has the shape of one for grey images.

    Args:
      model: called as `apply(variables, images, train)`.
      variables: {"params", "batch_stats"}, arrays or their shapes.
      image_shape: (H, W, C) of the network's input.

    Returns:
      The path of the parameter; None where no kernel fits, or where the image has neither 1 nor 3 channels and so would be no
      picture.
    """
    paths: list[tuple[str, ...]] = []

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        for given in [*args, *kwargs.values()][:1]:
            for name, leaf in context.module.variables.get("params", {}).items():
                if _fits(leaf, image_shape) and getattr(given, "shape", ())[-1:] == (leaf.shape[-2],):
                    paths.append((*context.module.path, name))
        return call(*args, **kwargs)

    def forward(variables: Any, images: jax.Array) -> Any:
        with nn.intercept_methods(record):
            return model.apply(variables, images, train=False)

    if image_shape[-1] in (1, 3):
        jax.eval_shape(forward, variables, jax.ShapeDtypeStruct((1, *image_shape), np.float32))
    return paths[0] if paths else None


def first_layer_kernels(params: Any, path: tuple[str, ...] | None, image_shape: tuple[int, int, int]) -> np.ndarray | None:
    """The filters of the first convolution, or the units of a first dense layer that reads all pixels.

    Args:
      params: tree of parameters.
      path: from `find_first_kernel`.
      image_shape: (H, W, C) of the network's input.

    Returns:
      float32 [F, h, w, C], in the layer's order; h, w = H, W for a dense layer. None where there is no such kernel.
    """
    kernel = None if path is None else functools.reduce(lambda tree, name: tree[name], path, params)
    if kernel is None or not _fits(kernel, image_shape):  # those of several layers, which a scan stacks
        return None
    kernel = np.asarray(kernel, np.float32)
    return np.moveaxis(kernel.reshape(*image_shape, -1) if kernel.ndim == 2 else kernel, -1, 0)


def _fits(leaf: Any, image_shape: tuple[int, int, int]) -> bool:
    """Whether a parameter has the shape of a kernel of convolution, or of a dense layer, for such images."""
    rank = np.ndim(leaf) if not isinstance(leaf, Mapping) else 0
    return rank in (2, 4) and leaf.shape[-2] == (image_shape[-1] if rank == 4 else math.prod(image_shape))


def kernel_grid(kernels: np.ndarray) -> np.ndarray:
    """Draws the first 64 kernels in rows of eight, in grey frames; grey is 0, each is scaled by its largest weight.

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
    cells = np.full((rows * columns, height * SCALE + GAP, width * SCALE + GAP, channels), FRAME, np.uint8)
    cells[:n, :-GAP, :-GAP] = images.repeat(SCALE, 1).repeat(SCALE, 2)
    grid = cells.reshape(rows, columns, *cells.shape[1:]).transpose(0, 2, 1, 3, 4)
    drawn = grid.reshape(rows * cells.shape[1], columns * cells.shape[2], channels)
    return np.pad(drawn, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=FRAME)
