"""Pictures of the kernels of the first layer, and of activations for one image."""

import numpy as np
from matplotlib.figure import Figure

from cifar_flax.analysis.figures import CARD, new_figure, short, show_image
from cifar_flax.analysis.report.layers import Layer, format_shape
from cifar_flax.models.first_layer import COLUMNS, SHOWN, kernel_grid

MAPS = 16  # feature maps shown of a layer
UNITS = 64  # units in a row


def draw_kernels(kernels: np.ndarray) -> Figure:
    """Draws up to 64 kernels of the first layer, those of the largest norm first.

    Args:
      kernels: float32 [F, h, w, C] from `first_layer_kernels`.
    """
    order = np.argsort(-np.square(kernels).sum((1, 2, 3)), kind="stable")
    shown = kernels[order[:SHOWN]]
    figure = new_figure(height=0.5 * -(-len(shown) // COLUMNS) + 0.3)
    more = f", the {SHOWN} largest of {len(kernels)}" if len(kernels) > SHOWN else ""
    figure.suptitle(f"{len(shown)} of {format_shape(shown.shape[1:])} each{more}", fontsize=8.5)
    show_image(figure.add_subplot(), kernel_grid(shown))
    return figure


def draw_activations(layer: Layer) -> Figure:
    """Draws the output of a layer for the first image, black for its lowest value and white for its highest.

    Of feature maps [H, W, F] the sixteen that vary most are shown; of tokens [T, F] and units [F] all.
    """
    values = layer.output[0]
    name = short(layer.name, 30)
    if values.ndim == 3:
        order = np.argsort(-values.std((0, 1)), kind="stable")[:MAPS]
        title = f"{name}: {len(order)} of {values.shape[-1]} maps of {format_shape(values.shape[:2])}"
        return _draw_maps(np.moveaxis(values[..., order], -1, 0), title)
    if values.ndim == 2:
        return _draw_units(values, f"{name}: {len(values)} tokens of {values.shape[1]} units")
    units = values.reshape(-1)
    strip = np.full((-(-len(units) // UNITS), min(len(units), UNITS)), np.nan)
    strip.flat[: len(units)] = units
    return _draw_units(strip, f"{name}: {len(units)} units")


def _draw_maps(maps: np.ndarray, title: str) -> Figure:
    columns = min(COLUMNS, len(maps))
    rows = -(-len(maps) // columns)
    figure = new_figure(height=0.5 * rows + 0.3)
    figure.suptitle(title, fontsize=8.5)
    low, high = np.nanmin(maps, initial=np.inf), np.nanmax(maps, initial=-np.inf)
    for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).ravel()):
        axes.set_axis_off()
        if i < len(maps):
            show_image(axes, maps[i])
            if low < high:
                axes.images[0].set_clim(low, high)
    return figure


def _draw_units(values: np.ndarray, title: str) -> Figure:
    rows, columns = values.shape
    figure = new_figure(height=min(max(0.55, 0.35 + CARD * rows / max(columns, UNITS)), CARD))
    figure.suptitle(title, fontsize=8.5)
    show_image(figure.add_subplot(), values)
    return figure
