"""Explanation of a prediction, as a heat map over what the network sees."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from cifar_flax.data.pictures.fit import to_picture
from cifar_flax.evaluation.explain import default_squares, squares_to_pixels
from cifar_flax.network import METHODS, Network
from cifar_flax.runtime import background

SIDE = 320  # pixels of the longer side of a heat map, about: each pixel that the network sees becomes a whole number of them
BLUR = 20  # the gradient is smoothed by a Gaussian of this part of the shorter side: pixel by pixel it is noise to the eye
FAINTEST = 1e-3  # of probability; where no square takes away more, nothing is brightened: it would be rounding
CONTOURS = 0.3  # of the picture's contrast under the colours

# Matplotlib's cividis at nine places: from blue to yellow for all eyes, and evenly brighter.
# Nunez et al., "Optimizing colormaps with consideration for color vision deficiency", PLoS ONE 13(7), 2018.
CIVIDIS = np.array(
    [
        (0, 34, 78),
        (26, 56, 111),
        (67, 78, 108),
        (97, 101, 111),
        (125, 124, 120),
        (155, 148, 118),
        (188, 174, 108),
        (222, 201, 88),
        (254, 232, 56),
    ],
    np.float32,
)


@dataclass(frozen=True)
class HeatMap:
    """Pixels that a prediction rests on.

    Attributes:
      values: float32 [rows, columns], as `Network.explain` returns them.
      picture: the heat map over what the network sees, larger than that; RGB.
    """

    values: np.ndarray
    picture: Image.Image


class Explainer:
    """Explains predictions; each method is compiled in the background, before it is first used."""

    def __init__(self, network: Network) -> None:
        self._network, self._lock = network, threading.Lock()
        self._compiled: dict[tuple[str, bool], Future[None]] = {}

    def compile_in_background(self, flip: bool = False) -> None:
        """Begins to compile all methods, the default of the API first; `flip` as in `Network.explain`."""
        for method in reversed(METHODS):
            self._begin(method, flip)

    def heat_map(self, image: np.ndarray, label: int, method: str, flip: bool = False) -> HeatMap:
        """Explains the class `label` of an image, uint8 [H, W, C], once that is compiled; arguments as in `Network.explain`."""
        self._begin(method, flip).result()
        height, width = image.shape[:2]
        size, stride = default_squares(image.shape)
        values = self._network.explain(image, label, method, size, stride, flip)
        if method == "occlusion":
            heat = gaussian_filter(squares_to_pixels(values, height, width, size, stride), stride / 2)
            faintest = FAINTEST
        else:
            heat = gaussian_filter(values, min(height, width) / BLUR)
            faintest = 0.0
        return HeatMap(values, draw(image, np.maximum(heat, 0) / max(float(heat.max()), faintest, 1e-30)))

    def _begin(self, method: str, flip: bool) -> Future[None]:
        key = method, flip
        with self._lock:
            compiled = self._compiled.get(key)
            if compiled is None or (compiled.done() and compiled.exception()):  # there may be memory for it by now
                compiled = self._compiled[key] = background.submit(lambda: self._network.compile_explanation(*key))
            return compiled


def draw(image: np.ndarray, heat: np.ndarray) -> Image.Image:
    """The colours of the heat, lighter and darker where the image is: so that no heat has the same colour wherever it is.

    Args:
      image: uint8 [H, W, C].
      heat: float32 [H, W] in [0, 1], drawn from blue to yellow.
    """
    height, width = heat.shape
    scale = max(1, round(SIDE / max(height, width)))
    size = (width * scale, height * scale)
    grey = np.asarray(to_picture(image).convert("L").resize(size, Image.Resampling.NEAREST), np.float32)
    smooth = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    places = np.linspace(0, 1, len(CIVIDIS))
    colour = np.stack([np.interp(smooth, places, channel) for channel in CIVIDIS.T], -1)
    mixed = colour + CONTOURS * (grey - grey.mean())[..., None]
    return Image.fromarray(mixed.clip(0, 255).round().astype(np.uint8))
