"""Image shape, class names and normalization of a training set, which a network needs for any other image."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import TypeAdapter, ValidationError

from cifar_flax.config import Normalization
from cifar_flax.data.class_names import checked_names
from cifar_flax.data.dataset import Dataset, superclass_map
from cifar_flax.errors import UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed

MAX_IMAGE = 1 << 31  # bytes of one, beyond which XLA's sizes overflow
REMEDY = "; remove it, and the command that trains the run writes it again"


@dataclass(frozen=True)
class Preprocessing:
    """Saved in the run directory as dataset.json, so that predictions do not need the data set.

    Attributes:
      image_shape: (H, W, C) of the images.
      class_names: one per class.
      coarse_names: one per superclass; empty where there are none.
      coarse_of_fine: the superclass of each class, -1 where no image tells; empty where there are none.
      mean, std: per channel, of pixels in [0, 1], over the training images.
      hashes: SHA-256 of the arrays of the train split, validation images included, by which a run recognizes its data.
      test_hashes: the same of the test split as it was when the run began; empty where there was none.
      source: the data set, with absolute paths.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    coarse_names: tuple[str, ...]
    coarse_of_fine: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hashes: dict[str, str] = field(default_factory=dict)
    test_hashes: dict[str, str] = field(default_factory=dict)
    source: str = ""

    def check(self) -> None:
        """Refuses parts that do not go with each other.

        Raises:
          ValueError: it is not of any training set.
          UserError: its class names are not those of one.
        """
        classes, superclasses, channels = len(self.class_names), len(self.coarse_names), self.image_shape[-1]
        if not classes or min(self.image_shape) < 1:
            raise ValueError(f"images of shape {self.image_shape} and {classes} classes")
        if channels not in (1, 3):
            raise ValueError(f"images of {channels} channels; expected 1 or 3")
        if math.prod(self.image_shape) >= MAX_IMAGE:
            raise ValueError(f"images of shape {self.image_shape}; expected at most {MAX_IMAGE / 1e9:.1f} GB each")
        checked_names("its classes", self.class_names)
        checked_names("its superclasses", self.coarse_names)
        if (self.coarse_of_fine or superclasses) and len(self.coarse_of_fine) != classes:
            raise ValueError(f"{len(self.coarse_of_fine)} classes have a superclass, of {classes}")
        if not all(-1 <= superclass < superclasses for superclass in self.coarse_of_fine):
            raise ValueError(f"a class has a superclass that is none of the {superclasses}")
        if not len(self.mean) == len(self.std) == channels:
            raise ValueError(f"means and deviations of {len(self.mean)} and {len(self.std)} channels, of {channels}")
        if not all(map(math.isfinite, self.mean)) or not all(0 < deviation < math.inf for deviation in self.std):
            raise ValueError(f"means {self.mean} and deviations {self.std}")

    @property
    def num_classes(self) -> int:
        """Number of (fine) classes."""
        return len(self.class_names)

    def superclass(self, label: int) -> str | None:
        """The name of the superclass of a class; None where it has none."""
        coarse = self.coarse_of_fine[label] if self.coarse_of_fine else -1
        return self.coarse_names[coarse] if coarse >= 0 else None

    @classmethod
    def of(
        cls,
        train: Dataset,
        normalization: Normalization,
        hashes: dict[str, str],
        test_hashes: dict[str, str] | None = None,
        source: str = "",
    ) -> "Preprocessing":
        """Computes it from the training images; hashes and source are recorded."""
        channels = train.images.shape[-1]
        unit = ((0.0,) * channels, (1.0,) * channels)
        mean, std = unit if normalization is Normalization.UNIT else channel_statistics(train.images)
        coarse = train.coarse_of_fine or superclass_map([train])
        height, width, _ = (int(size) for size in train.images.shape[1:])
        shape = (height, width, channels)
        return cls(shape, train.class_names, train.coarse_names, coarse, mean, std, hashes, dict(test_hashes or {}), source)

    def normalize(self, images: Array) -> Array:
        """Normalizes images, uint8 [N, H, W, C], for the network: float32 [N, H, W, C]."""
        return self.standardize(to_unit(images))

    def standardize(self, images: Array) -> Array:
        """Normalizes images that are float32 [N, H, W, C] in [0, 1] already, such as augmented ones."""
        return (images - jnp.array(self.mean)) / jnp.array(self.std)

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        write_text(path, dumps_checksummed(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Preprocessing":
        """Reads a file of `write`.

        Raises:
          UserError: the file is missing, cannot be read, or is damaged.
        """
        try:
            preprocessing: Preprocessing = TypeAdapter(Preprocessing).validate_python(read_checksummed(path))
            preprocessing.check()
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; is {path.parent} a run directory?") from None
        except OSError as e:
            raise UserError(f"{path}: cannot be read ({e.strerror})") from None
        except ValidationError as e:
            raise UserError(f"{path}: damaged: {e.errors()[0]['msg']}{REMEDY}") from None
        except (ValueError, UserError) as e:
            raise UserError(f"{path}: damaged: {e}{REMEDY}") from None
        return preprocessing


def to_unit(images: Array) -> Array:
    """Converts pixels, uint8 [...], to float32 [...] in [0, 1].

    Raises:
      TypeError: the pixels have another dtype.
    """
    if images.dtype != jnp.uint8:
        raise TypeError(f"expected uint8 pixels, not {images.dtype}")
    return images / jnp.float32(255)


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes the exact mean and standard deviation of each channel of uint8 [N, H, W, C], in units of 255.

    The standard deviation of a constant channel is 1.
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
