"""Pictures of any size and mode to the one size that a data set has."""

import numpy as np
from PIL import Image, ImageOps


def fit(picture: Image.Image, size: int) -> np.ndarray:
    """Crops the largest square from the middle and resizes it with an antialiasing bicubic filter.

    Args:
      picture: mode "L" or "RGB".
      size: pixels a side.

    Returns:
      uint8 [size, size, C], C 1 for "L" and 3 for "RGB"; the pixels as they are where the picture has that size already.
    """
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture).reshape(size, size, -1)


def fit_all(images: np.ndarray, size: int | None) -> np.ndarray:
    """`fit` for uint8 [N, H, W, C], C 1 or 3: uint8 [N, size, size, C]; unchanged where `size` is None or theirs."""
    if size is None or images.shape[1:3] == (size, size):
        return images
    resized = np.empty((len(images), size, size, images.shape[-1]), np.uint8)
    for i, image in enumerate(images):
        resized[i] = fit(to_picture(image), size)
    return resized


def to_picture(image: np.ndarray) -> Image.Image:
    """A Pillow image from uint8 [H, W, 1 or 3]."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
