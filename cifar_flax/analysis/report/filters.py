"""What a network looks for and what it sees: the weights of its first layer, and the maps of one image."""

import math

import numpy as np
from matplotlib.figure import Figure

from cifar_flax.analysis.figures import new_figure, short, show_image
from cifar_flax.analysis.report.layers import Layer, dimensions, leaf_layers

SHOWN = 64  # filters
MAPS = 16  # of a layer


def first_weights(layers: list[Layer], image_shape: tuple[int, int, int]) -> np.ndarray | None:
    """The weights of the first layer as small images, float32 [F, h, w, C] in [0, 1], 0.5 for 0; the largest norm first.

    They are filters of a convolution, or units of a dense layer that sees all pixels. None where the first layer is neither, or
    the image has other than one or three channels.

    Args:
      layers: from `call_layers`.
      image_shape: (H, W, C).
    """
    kernels = (layer.params["kernel"] for layer in leaf_layers(layers) if "kernel" in layer.params)
    kernel = np.asarray(next(kernels, np.zeros(0)), np.float32)
    if kernel.ndim == 2 and len(kernel) == math.prod(image_shape):
        kernel = kernel.reshape(*image_shape, -1)
    if kernel.ndim != 4 or kernel.shape[2] not in (1, 3):
        return None
    filters = np.moveaxis(kernel, -1, 0)
    order = np.argsort(-np.square(filters).sum((1, 2, 3)), kind="stable")
    scale = np.abs(filters).max((1, 2, 3), keepdims=True)
    return (0.5 + 0.5 * filters / np.where(scale > 0, scale, 1))[order]


def draw_weights(filters: np.ndarray) -> Figure:
    """A grid of up to 64 of what `first_weights` gives."""
    shown = filters[:SHOWN]
    columns = min(8, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(height=0.5 * rows + 0.3)
    more = f", the {SHOWN} largest of {len(filters)}" if len(filters) > SHOWN else ""
    figure.suptitle(f"{len(shown)} of {dimensions(shown.shape[1:])} each{more}", fontsize=8.5)
    _grid(figure, rows, columns, shown)
    return figure


def draw_activations(layer: Layer) -> Figure:
    """What a layer returns for the first image: of maps [H, W, F] the sixteen that vary most, of units [F] all, as a strip.

    Black is the lowest of the values of the layer that are shown and white the highest.
    """
    values = layer.output[0]
    if values.ndim == 3:
        order = np.argsort(-values.std((0, 1)), kind="stable")[:MAPS]
        shown = np.moveaxis(values[..., order], -1, 0)
        columns = min(8, len(shown))
        rows = -(-len(shown) // columns)
        figure = new_figure(height=0.5 * rows + 0.3)
        _grid(figure, rows, columns, shown)
        what = f"{len(shown)} of {values.shape[-1]} maps of {dimensions(values.shape[:2])}"
    else:
        flat = values.reshape(-1)
        columns = min(len(flat), 64)
        strip = np.full(-(-len(flat) // columns) * columns, np.nan)
        strip[: len(flat)] = flat
        figure = new_figure(height=max(0.55, 0.35 + 0.06 * len(strip) / columns))
        axes = figure.add_subplot()
        show_image(axes, strip.reshape(-1, columns))
        what = f"{len(flat)} units"
    figure.suptitle(f"{short(layer.name, 30)}: {what}", fontsize=8.5)
    return figure


def _grid(figure: Figure, rows: int, columns: int, images: np.ndarray) -> None:
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    low, high = np.nanmin(images, initial=np.inf), np.nanmax(images, initial=-np.inf)
    for i, one in enumerate(axes):
        one.set_axis_off()
        if i < len(images):
            show_image(one, images[i])
            if images[i].ndim == 2 and low < high:
                one.images[0].set_clim(low, high)
