"""Explanations of predictions: occlusion maps of several images at once, drawn over the images."""

import numpy as np
from PIL import ImageColor

from cifar_flax.analysis import figures
from cifar_flax.analysis.robustness.image_filters import LUMA
from cifar_flax.evaluation.explain import default_squares, occlusion, squares_to_pixels
from cifar_flax.evaluation.scores import probabilities
from cifar_flax.network import Network

TINT = 0.8  # of the strongest place of an image
ORANGE, BLUE = map(ImageColor.getrgb, (figures.ORANGE, figures.BLUE))


def occlusion_pictures(network: Network, images: np.ndarray, classes: np.ndarray, tta: str) -> list[tuple[np.ndarray, float]]:
    """Covers parts of images with grey squares, a quarter of their size and half of that apart.

    Args:
      network: that predicts.
      images: uint8 [N, H, W, C].
      classes: int [N], the class of each whose probability is looked at.
      tta: test-time augmentation, as in `Network.logits`.

    Returns:
      For each image uint8 [H, W, 3] from `overlay`, and the probability that the class loses under the square that costs it
      most.
    """
    if not len(images):
        return []
    batch = network.config.train.eval_batch_size

    def shown(covered: np.ndarray) -> np.ndarray:
        # In batches of an evaluation, for which the program is there already.
        filled = np.pad(covered, [(0, -len(covered) % batch)] + [(0, 0)] * (covered.ndim - 1))
        return probabilities(network.logits(filled, tta)[: len(covered)], network.temperature)

    size, stride = default_squares(images.shape[1:])
    drops = occlusion(shown, images, classes, size, stride)
    return [(overlay(image, drop, size, stride), float(drop.max())) for image, drop in zip(images, drops, strict=True)]


def overlay(image: np.ndarray, drop: np.ndarray, size: int, stride: int) -> np.ndarray:
    """Tints an image, in grey: orange where the class rests on a pixel, blue where the pixel speaks against it.

    Args:
      image: uint8 [H, W, C], C 1 or 3.
      drop: float32 [rows, columns] from `occlusion`; a pixel has the mean over the squares that cover it.
      size: side of the square, in pixels.
      stride: distance between neighbouring squares, in pixels.

    Returns:
      uint8 [H, W, 3].
    """
    height, width = image.shape[:2]
    mean = squares_to_pixels(drop, height, width, size, stride)
    weight = TINT * np.abs(mean) / max(np.abs(mean).max(), 1e-9)
    grey = image @ LUMA if image.shape[-1] == 3 else image[..., 0]
    color = np.where((mean > 0)[..., None], ORANGE, BLUE)
    return np.rint(grey[..., None] * (1 - weight[..., None]) + color * weight[..., None]).astype(np.uint8)
