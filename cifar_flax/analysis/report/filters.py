"""Images of the kernels of the first layer, and of activations for one image, with captions."""

import numpy as np

from cifar_flax.analysis.figures import tile
from cifar_flax.analysis.report.layers import Layer, format_shape
from cifar_flax.models.first_layer import COLUMNS, SHOWN, kernel_grid

MAPS = 16  # feature maps shown of a layer
UNITS = 64  # units in a row
MAP_PIXELS, UNIT_PIXELS = 32, 6  # of a side, at least


def kernel_picture(kernels: np.ndarray) -> tuple[str, np.ndarray]:
    """Draws up to 64 kernels of the first layer, those of the largest norm first.

    Args:
      kernels: float32 [F, h, w, C] from `first_layer_kernels`.

    Returns:
      A caption and uint8 [H', W', C], as `kernel_grid` draws them.
    """
    order = np.argsort(-np.square(kernels).sum((1, 2, 3)), kind="stable")
    shown = kernels[order[:SHOWN]]
    more = f", the {SHOWN} largest of {len(kernels)}" if len(kernels) > SHOWN else ""
    return f"{len(shown)} of {format_shape(shown.shape[1:])} each{more}", kernel_grid(shown)


def activation_picture(layer: Layer) -> tuple[str, np.ndarray]:
    """Draws the output of a layer for the first image, black for its lowest value and white for its highest.

    Of feature maps [H, W, F] the sixteen that vary most are shown; of tokens [T, F] and units [F] all.

    Returns:
      A caption and uint8 [H', W', 4], transparent between maps and where there is no unit.
    """
    values = layer.output[0]
    if values.ndim == 3:
        order = np.argsort(-values.std((0, 1)), kind="stable")[:MAPS]
        caption = f"{layer.name}: {len(order)} of {values.shape[-1]} maps of {format_shape(values.shape[:2])}"
        maps = _grey(np.moveaxis(values[..., order], -1, 0))
        scale = -(-MAP_PIXELS // max(values.shape[:2]))
        return caption, tile(maps.repeat(scale, 1).repeat(scale, 2), COLUMNS)
    if values.ndim == 2:
        return f"{layer.name}: {len(values)} tokens of {values.shape[1]} units", tile(
            _grey(values).reshape(1, *values.shape, 1), 1
        )
    units = _grey(values.reshape(-1, 1, 1)).repeat(UNIT_PIXELS, 1).repeat(UNIT_PIXELS, 2)
    return f"{layer.name}: {len(units)} units", tile(units, UNITS, gap=1)


def _grey(values: np.ndarray) -> np.ndarray:
    """Values [...] as uint8 [..., 1], from black for the lowest to white; one that is NaN is black."""
    low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    scaled = (values - low) / (high - low) if low < high < np.inf else np.zeros(values.shape)
    return np.rint(255 * np.nan_to_num(scaled)).astype(np.uint8)[..., None]
