"""What a network needs to know of its training set to read any other image: shape, class names and normalisation."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import TypeAdapter, ValidationError

from cifar_flax.config import Normalization
from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed

REMEDY = "; remove it, and the command that trains the run writes it anew"


@dataclass(frozen=True)
class Preprocessing:
    """Saved in the run directory as dataset.json, so that nothing later needs the data set itself.

    Attributes:
      image_shape: (H, W, C) of the images.
      class_names: one a class.
      coarse_names: one a superclass; empty without.
      coarse_of_fine: the superclass of each class; empty without.
      mean, std: per channel, of pixels in [0, 1], over the images trained on.
      hashes: SHA-256 of the arrays of the train split, to know it again by.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    coarse_names: tuple[str, ...]
    coarse_of_fine: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Number of (fine) classes."""
        return len(self.class_names)

    @classmethod
    def of(cls, train: Dataset, normalization: Normalization, hashes: dict[str, str]) -> "Preprocessing":
        """Reads it off the images to be trained on."""
        channels = train.images.shape[-1]
        unit = ((0.0,) * channels, (1.0,) * channels)
        mean, std = unit if normalization is Normalization.UNIT else channel_statistics(train.images)
        coarse: tuple[int, ...] = ()
        if train.coarse_labels is not None:
            coarse = tuple(int(train.coarse_labels[np.argmax(train.labels == k)]) for k in range(train.num_classes))
        height, width, _ = (int(size) for size in train.images.shape[1:])
        return cls((height, width, channels), train.class_names, train.coarse_names, coarse, mean, std, hashes)

    def normalize(self, images: Array) -> Array:
        """Images, uint8 [N, H, W, C], as the network is fed with them: float32 [N, H, W, C]."""
        return self.standardize(to_unit(images))

    def standardize(self, images: Array) -> Array:
        """The second half of `normalize`, for images that are float32 [N, H, W, C] in [0, 1] already: augmented ones."""
        return (images - jnp.array(self.mean)) / jnp.array(self.std)

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        write_text(path, dumps_checksummed(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Preprocessing":
        """Reads what `write` wrote.

        Raises:
          UserError: the file is missing or damaged.
        """
        try:
            found: Preprocessing = TypeAdapter(Preprocessing).validate_python(read_checksummed(path))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; is {path.parent} a run directory?") from None
        except ValidationError as e:
            raise UserError(f"{path}: damaged: {e.errors()[0]['msg']}{REMEDY}") from None
        except ValueError as e:
            raise UserError(f"{path}: damaged: {e}{REMEDY}") from None
        return found


def to_unit(images: Array) -> Array:
    """Pixels, uint8 [...], as float32 [...] in [0, 1].

    Raises:
      TypeError: they have another dtype.
    """
    if images.dtype != jnp.uint8:
        raise TypeError(f"expected uint8 pixels, not {images.dtype}")
    return images / jnp.float32(255)


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 [N, H, W, C], as fractions of 255, computed exactly.

    A channel that never varies gets the standard deviation 1.
    """
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), 1000):
        chunk = np.asarray(images[start : start + 1000]).reshape(-1, channels)
        counts += np.stack([np.bincount(chunk[:, c], minlength=256) for c in range(channels)])
    levels, weights = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)
    mean = weights @ levels
    std = np.sqrt((weights * (levels - mean[:, None]) ** 2).sum(1))
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())
