"""Fitting of pictures of any shape to the image shape of a data set or a network."""

import numpy as np
from PIL import Image, ImageOps

from cifar_flax.runtime.flag_values import Fit

RESAMPLING = Image.Resampling.BICUBIC  # Pillow widens the filter where it shrinks, which prevents aliasing


def fit_picture(
    picture: Image.Image, image_shape: tuple[int, int, int], fit: Fit = Fit.CROP, mean: tuple[float, ...] = ()
) -> np.ndarray:
    """Resizes a picture to an image shape.

    Args:
      picture: mode RGB or, for C 1, L; of any size.
      image_shape: (H, W, C); C 1 takes the luma.
      fit: what becomes of another aspect ratio.
      mean: colour of the borders of `Fit.PAD`, in [0, 1], a channel each.

    Returns:
      uint8 [H, W, C]; the pixels as they are where the picture has that size already.
    """
    height, width, channels = image_shape
    if picture.size == (width, height):
        resized = picture
    elif fit is Fit.PAD:
        resized = _pad(picture, (width, height), mean)
    elif fit is Fit.SQUASH:
        resized = picture.resize((width, height), RESAMPLING)
    else:
        resized = ImageOps.fit(picture, (width, height), RESAMPLING)
    return np.asarray(resized if channels == 3 else resized.convert("L")).reshape(height, width, channels)


def _pad(picture: Image.Image, size: tuple[int, int], mean: tuple[float, ...]) -> Image.Image:
    """The picture as large as fits, in the middle of one of `size`; unlike ImageOps.pad it keeps a pixel of a thin line."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    color = [round(255 * channel) for channel in mean]
    padded = Image.new("RGB", size, tuple(color * 3 if len(color) == 1 else color))
    padded.paste(picture.resize((width, height), RESAMPLING), ((size[0] - width) // 2, (size[1] - height) // 2))
    return padded


def fit_all(images: np.ndarray, size: int | None) -> np.ndarray:
    """Crops each image to its largest central square and resizes it, as `fit_picture` does.

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
        resized[i] = fit_picture(to_picture(image), resized.shape[1:])
    return resized


def to_picture(image: np.ndarray) -> Image.Image:
    """Converts uint8 [H, W, 1 or 3] to a Pillow image."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
