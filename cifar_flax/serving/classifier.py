"""A trained network as a function from pictures to ranked classes."""

import enum
import threading
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps

from cifar_flax.config import Config
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.models import Variables
from cifar_flax.runtime.devices import compiler_options, compute_dtype
from cifar_flax.serving.images import decode

RESAMPLING = Image.Resampling.BICUBIC  # widened by Pillow where it shrinks, which is what keeps it from aliasing
ACCELERATOR_BATCH = 64

Picture = str | Path | bytes | Image.Image | np.ndarray


class Fit(enum.StrEnum):
    """How a picture of another shape becomes one of the network's."""

    CROP = "crop"  # the largest part in the middle that has the shape
    SQUASH = "squash"  # all of it, stretched
    PAD = "pad"  # all of it, with borders in the mean colour of the training images


class Prediction(NamedTuple):
    """One guess: the class, its superclass where there is one, and its probability in [0, 1]."""

    name: str
    superclass: str | None
    probability: float


class Source(Protocol):
    """Where a network comes from: a Run, or pretrained weights."""

    @property
    def config(self) -> Config:
        """What was trained."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Image shape, class names and normalisation."""

    @property
    def model(self) -> nn.Module:
        """The network."""

    def variables(self) -> Variables:
        """Its weights."""


class Classifier:
    """Classifies pictures; any number of threads may use one.

    The network is compiled once, at construction, for one batch size, to which every batch is padded: a picture gets the same
    probabilities whatever it is classified with.

    Attributes:
      source: the run or the pretrained weights.
      fit: how pictures become the network's shape.
      flip: whether the logits are averaged over a picture and its mirror image.
      batch_size: pictures at a time. On a CPU it is one: a batch takes as long as its pictures one by one (0.5 ms each for
        configs/three_conv.py), so padding to more would only cost.
    """

    def __init__(self, source: Source, fit: Fit = Fit.CROP, flip: bool = False, batch_size: int | None = None) -> None:
        """Loads the weights and compiles.

        Raises:
          UserError: there are no weights, or what they answer is not finite.
        """
        self.source, self.fit, self.flip = source, Fit(fit), flip
        self.batch_size = batch_size or (1 if jax.default_backend() == "cpu" else ACCELERATOR_BATCH)
        self._variables = jax.device_put(source.variables(), jax.local_devices()[0])
        self._network = self._compile()
        self._lock = threading.Lock()  # one batch at a time has all cores; two would only slow each other down
        if not np.isfinite(self.probabilities(np.zeros((1, *self.preprocessing.image_shape), np.uint8))).all():
            raise UserError("the network's answers are not finite: its training diverged; choose another run or checkpoint")

    @property
    def preprocessing(self) -> Preprocessing:
        """Image shape, class names and normalisation."""
        return self.source.preprocessing

    def classify(self, picture: Picture, top: int = 5) -> list[Prediction]:
        """The `top` most probable classes of a picture, best first.

        Args:
          picture: a path, the bytes of a file, a Pillow image, or uint8 [H, W], [H, W, 1], [H, W, 3] or, with alpha, [H, W, 4].
          top: how many; all of them if there are fewer.

        Raises:
          OSError: there is no such file.
          UnreadableImage: it is no picture, or one too large.
        """
        return self.rank(self.probabilities(self.view(picture)[None])[0], top)

    def view(self, picture: Picture) -> np.ndarray:
        """What the network sees of a picture: uint8 [H, W, C] of its own image shape."""
        height, width, channels = self.preprocessing.image_shape
        rgb = _read(picture)
        if self.fit is Fit.PAD:
            resized = self._pad(rgb, (width, height))
        elif self.fit is Fit.SQUASH:
            resized = rgb.resize((width, height), RESAMPLING)
        else:
            resized = ImageOps.fit(rgb, (width, height), RESAMPLING)
        return np.asarray(resized if channels == 3 else resized.convert("L")).reshape(height, width, channels)

    def probabilities(self, views: np.ndarray) -> np.ndarray:
        """The probability of each class: float32 [N, num_classes], rows summing to 1, for uint8 [N, H, W, C] from `view`."""
        found = []
        for start in range(0, len(views), self.batch_size):
            batch = views[start : start + self.batch_size]
            padding = [(0, self.batch_size - len(batch))] + [(0, 0)] * (views.ndim - 1)
            with self._lock:
                found.append(np.asarray(self._network(self._variables, np.pad(batch, padding)))[: len(batch)])
        return np.concatenate(found) if found else np.empty((0, self.preprocessing.num_classes), np.float32)

    def rank(self, probabilities: np.ndarray, top: int = 5) -> list[Prediction]:
        """The `top` largest of float32 [num_classes], by name, the largest first; classes that tie in their own order."""
        names, order = self.preprocessing.class_names, np.argsort(-probabilities, kind="stable")[:top]
        return [Prediction(names[k], self.superclass(k), float(probabilities[k])) for k in order]

    def superclass(self, label: int) -> str | None:
        """The name of the superclass of a class, where there are any."""
        known = self.preprocessing
        return known.coarse_names[known.coarse_of_fine[label]] if known.coarse_of_fine else None

    def _compile(self) -> Any:
        """The compiled (variables, uint8 [batch_size, H, W, C]) -> float32 [batch_size, num_classes]."""
        model, known = self.source.model, self.preprocessing

        def logits(variables: Variables, batch: jax.Array) -> Any:
            return model.apply(variables, known.normalize(batch), train=False)

        def network(variables: Variables, batch: jax.Array) -> jax.Array:
            found = logits(variables, batch).astype(jnp.float32)
            if self.flip:
                found = (found + logits(variables, batch[:, :, ::-1])) / 2
            return jax.nn.softmax(found)

        options = compiler_options(compute_dtype(self.source.config.train.dtype))
        batch = jax.ShapeDtypeStruct((self.batch_size, *known.image_shape), jnp.uint8)
        return jax.jit(network, compiler_options=options).lower(self._variables, batch).compile()

    def _pad(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        """`picture` as large as fits, in the middle of one of `size`; unlike ImageOps.pad it keeps a pixel of a thin line."""
        scale = min(size[0] / picture.width, size[1] / picture.height)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        mean = [round(255 * m) for m in self.preprocessing.mean]
        padded = Image.new("RGB", size, tuple(mean * 3 if len(mean) == 1 else mean))
        padded.paste(picture.resize((width, height), RESAMPLING), ((size[0] - width) // 2, (size[1] - height) // 2))
        return padded


def _read(picture: Picture) -> Image.Image:
    """Any picture as an upright RGB one."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
    if isinstance(picture, Image.Image):
        return decode.upright_rgb(picture)
    return decode.decode(picture if isinstance(picture, bytes) else Path(picture).read_bytes())
