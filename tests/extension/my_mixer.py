"""MLP-Mixer on handwritten digits: a network, a loss, an augmentation and a data set in a file that cifar_flax does not know.

    cd tests/extension && python ../../launch/train.py --config=my_mixer.py [--config.model.depth=4]

The digits are those of scikit-learn: 1,797 grey pictures of 8x8 pixels.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Le, Lt
from sklearn.datasets import load_digits

from cifar_flax import Config, Dataset, ModelSpec
from cifar_flax.errors import ConfigError


@dataclass(slots=True)
class Mixer(ModelSpec):
    """Layers that mix patches, then channels, in turn.

    References:
      Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", NeurIPS 2021.
    """

    patch_size: Annotated[int, Ge(1), Le(64)] = 2  # pixels
    width: Annotated[int, Ge(1), Le(4096)] = 32
    depth: Annotated[int, Ge(0), Le(100)] = 2
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0

    def build(self, num_classes: int, dtype: Any) -> nn.Module:
        """Makes the module."""
        return MixerModule(self, num_classes, dtype)

    def check(self) -> None:
        """Refuses dropout where there is nothing to drop."""
        if self.dropout and not self.depth:
            raise ConfigError("dropout: has no effect at depth 0")


class MixerModule(nn.Module):
    """The network that a `Mixer` describes."""

    spec: Mixer
    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps images, float32 [N, H, W, C], to logits, float32 [N, num_classes]."""
        spec = self.spec
        size = (spec.patch_size, spec.patch_size)
        x = nn.Conv(spec.width, size, size, padding="VALID", dtype=self.dtype, name="patches")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype, name="patches_norm")(x)
        x = x.reshape(x.shape[0], -1, spec.width)  # [N, patches, width]
        for i in range(spec.depth):
            y = nn.LayerNorm(dtype=self.dtype, name=f"patch_norm{i}")(x).swapaxes(1, 2)
            x = x + self._mlp(y, train, f"mix_patches{i}").swapaxes(1, 2)
            x = x + self._mlp(nn.LayerNorm(dtype=self.dtype, name=f"channel_norm{i}")(x), train, f"mix_channels{i}")
        return nn.Dense(self.num_classes, dtype=self.dtype, name="logits")(x.mean(1)).astype(jnp.float32)

    def _mlp(self, x: jax.Array, train: bool, name: str) -> jax.Array:
        y = nn.gelu(nn.Dense(2 * x.shape[-1], dtype=self.dtype, name=f"{name}_in")(x))
        y = nn.Dropout(self.spec.dropout, deterministic=not train)(y)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name=f"{name}_out")(y)


def focal_loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross entropy in which confident predictions count less: float32 [N, C], [N, C] -> [N].

    References:
      Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, with gamma = 1.
    """
    log_probs = jax.nn.log_softmax(logits)
    return -(targets * (1 - jnp.exp(log_probs)) * log_probs).sum(-1)


def fade(key: jax.Array, images: jax.Array) -> jax.Array:
    """Multiplies each image, float32 [N, H, W, C] in [0, 1], by a factor of its own in [.6, 1]."""
    return images * jax.random.uniform(key, (images.shape[0], 1, 1, 1), minval=0.6, maxval=1.0)


def digits() -> dict[str, Dataset]:
    """1,500 digits to train on, 297 to test on."""
    bunch = load_digits()
    images = (bunch.images * (255 / 16)).round().astype(np.uint8)[..., None]
    labels, names = bunch.target.astype(np.int32), tuple(f"digit {i}" for i in range(10))
    return {"train": Dataset(images[:1500], labels[:1500], names), "test": Dataset(images[1500:], labels[1500:], names)}


def get_config(variant: str = "") -> Config:
    """Ten epochs, a second each."""
    c = Config()
    c.data.name = "my_mixer:digits"
    c.augment.custom = ("my_mixer:fade",)
    c.loss = "my_mixer:focal_loss"
    c.model = Mixer(dropout=0.1)
    c.optim.learning_rate = 3e-3
    c.optim.ema_decay = 0.98
    c.train.batch_size, c.train.eval_batch_size, c.train.epochs = 50, 150, 10
    c.log.every_steps = 1
    return c
