"""Common corruptions of small images in five severities, drawn here and always the same, in the manner of CIFAR-C.

The families, and the settings of each severity for 32x32 images, are those of Hendrycks & Dietterich, "Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations", ICLR 2019, as their make_cifar_c.py has them. Fog and elastic
distortion are drawn by other means here, the latter with strengths of its own, and frost, which pastes photographs, is left
out. The pictures are not those of the published files: figures compare networks with each other, not with papers.
"""

import io
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from cifar_flax.analysis.robustness.movement import motion_blur, zoom_blur
from cifar_flax.analysis.robustness.weather import fog, snow

SEVERITIES = (1, 2, 3, 4, 5)
CHUNK = 1000  # images that share a random stream

Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def corrupt(images: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Applies one corruption to every image; the same images give the same result on every machine.

    Args:
      images: uint8 [N, H, W, 3].
      name: one of CORRUPTIONS.
      severity: 1 to 5.

    Returns:
      uint8 [N, H, W, 3].
    """
    out = np.empty_like(images)
    for start in range(0, len(images), CHUNK):
        rng = np.random.default_rng([zlib.crc32(name.encode()), severity, start])
        part = images[start : start + CHUNK].astype(np.float64) / 255
        out[start : start + CHUNK] = np.rint(np.clip(CORRUPTIONS[name](part, severity - 1, rng), 0, 1) * 255)
    return out


def gaussian_noise(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise in the dark."""
    return x + rng.normal(scale=(0.04, 0.06, 0.08, 0.09, 0.10)[level], size=x.shape)


def shot_noise(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Few photons: Poisson counts, of this mean for white."""
    photons = (500, 250, 100, 75, 50)[level]
    return rng.poisson(x * photons) / photons


def impulse_noise(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Broken bits: this share of all values is 0 or 1."""
    hit = rng.random(x.shape) < (0.01, 0.02, 0.03, 0.05, 0.07)[level]
    return np.where(hit, rng.integers(0, 2, x.shape), x)


def defocus_blur(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Out of focus: a disk of this radius, its edge smoothed."""
    radius, smooth = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[level]
    rows, columns = np.mgrid[-4:5, -4:5]
    disk = ndimage.gaussian_filter((rows**2 + columns**2 <= radius**2).astype(float), smooth, mode="constant")
    return ndimage.convolve(x, (disk / disk.sum())[None, :, :, None], mode="mirror")


def glass_blur(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Frosted glass: each pixel shows itself or one of those above and to the left, between two faint blurs.

    CIFAR-C's code means to swap the two, but both sides of its assignment look into one array, so that it copies.
    """
    sigma, rounds = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[level]
    x = ndimage.gaussian_filter(x, (0, sigma, sigma, 0))
    n, height, width, _ = x.shape
    images, rows, columns = np.ogrid[:n, 2:height, 2:width]
    for _ in range(rounds):
        up, left = rng.integers(0, 2, (2, n, height - 2, width - 2))
        x[:, 2:, 2:] = x[images, rows - up, columns - left]
    return ndimage.gaussian_filter(x, (0, sigma, sigma, 0))


def brightness(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Daylight: this much more of the value of each colour (its largest channel), hue and saturation kept."""
    value = x.max(-1, keepdims=True)
    brighter = np.minimum(value + (0.05, 0.1, 0.15, 0.2, 0.3)[level], 1)
    return np.where(value > 0, x * brighter / np.maximum(value, 1e-12), brighter)


def contrast(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Haze: this share of the distance from each image's mean is left."""
    mean = x.mean((1, 2), keepdims=True)
    return mean + (0.75, 0.5, 0.4, 0.3, 0.15)[level] * (x - mean)


def elastic(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Stretched and squeezed: pixels move by a smooth random field of this strength and smoothness, in image widths."""
    strength, smooth = ((0.012, 0.12), (0.018, 0.10), (0.024, 0.09), (0.032, 0.08), (0.04, 0.07))[level]
    n, height, width, channels = x.shape
    field = ndimage.gaussian_filter(rng.uniform(-1, 1, (2, n, height, width)), (0, 0, smooth * height, smooth * width))
    field *= strength * width / field.std((2, 3), keepdims=True)
    places = np.indices((height, width))[:, None] + field  # [2, N, H, W]
    out = np.empty_like(x)
    for i in range(n):
        for c in range(channels):
            out[i, :, :, c] = ndimage.map_coordinates(x[i, :, :, c], places[:, i], order=1, mode="mirror")
    return out


def pixelate(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Made smaller, to this share of its size, and large again without smoothing."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[level]

    def change(image: Image.Image) -> Image.Image:
        small = (int(image.width * share), int(image.height * share))
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _each(x, change)


def jpeg(x: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Compressed with this quality, in Pillow's scale."""

    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=(80, 65, 58, 50, 40)[level])
        return Image.open(file)

    return _each(x, change)


def _each(x: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Images through Pillow, one by one."""
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in np.rint(x * 255).astype(np.uint8)]) / 255


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic": elastic,
    "pixelate": pixelate,
    "jpeg": jpeg,
}
