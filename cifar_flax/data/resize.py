"""Center crop and resize of pictures to the image size of a data set."""

import numpy as np
from PIL import Image, ImageOps


def fit(picture: Image.Image, size: int) -> np.ndarray:
    """Crops the largest central square and resizes it with an antialiasing bicubic filter.

    Args:
      picture: mode "L" or "RGB".
      size: pixels a side.

    Returns:
      uint8 [size, size, C], C 1 for "L" and 3 for "RGB"; a picture of that size is unchanged.
    """
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture).reshape(size, size, -1)


def fit_all(images: np.ndarray, size: int | None) -> np.ndarray:
    """Applies `fit` to each image.

    Args:
      images: uint8 [N, H, W, C], C 1 or 3.
      size: pixels a side, or None to change nothing.

    Returns:
      uint8 [N, size, size, C]; `images` itself where nothing changes.
    """
    if size is None or images.shape[1:3] == (size, size):
        return images
    resized = np.empty((len(images), size, size, images.shape[-1]), np.uint8)
    for i, image in enumerate(images):
        resized[i] = fit(to_picture(image), size)
    return resized


def to_picture(image: np.ndarray) -> Image.Image:
    """Converts uint8 [H, W, 1 or 3] to a Pillow image."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
