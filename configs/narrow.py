"""Narrow ELU network on CIFAR-100: 32-32 / 64-64, 1,297,028 parameters.

    python launch/train.py --config=configs/narrow.py

Keras' CIFAR-10 example, with which the search of the wide network's author began: he blames its 32 first filters for leaning
on colour. `configs/search/wide_grid.py` searches what he searched. `:short` is for a few epochs; docs/experiments.md trains
the wide network so too, to compare the two.

Claim: `:short` has 47.07 % test top-1, n = 1, 37 min beside other work on two shared AMD EPYC cores with AVX-512 BF16, bfloat16
(2026-11-27).
    python launch/train.py --config=configs/narrow.py:short
"""

from cifar_flax.config import Activation, Config, Normalization, Padding, apply_variant
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig
from cifar_flax.optim import AdamW, RMSprop


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar100"
    c.data.normalization = Normalization.UNIT

    c.augment.flip = True
    c.augment.width_shift = c.augment.height_shift = 0.1

    c.model = ConvNet(
        activation=Activation.ELU,
        blocks=tuple(
            BlockConfig(features=(width, width), paddings=(Padding.SAME, Padding.VALID), dropout=0.25) for width in (32, 64)
        ),
        dense=(DenseConfig(512, dropout=0.5),),
    )

    c.optim = RMSprop(learning_rate=1e-4)
    c.optim.schedule = "inverse_time"
    c.optim.decay = 1e-6

    c.train.batch_size = 64
    c.train.epochs = 200
    return apply_variant(c, variant, VARIANTS)


def short(c: Config) -> None:
    """A falling rate, an average of the weights, smoothed labels."""
    c.data.normalization = Normalization.STANDARDIZE
    c.optim = AdamW(learning_rate=1e-3, weight_decay=0.05, label_smoothing=0.1, ema_decay=0.999)
    c.optim.schedule = "cosine"
    c.optim.warmup_epochs = 2.0
    c.train.epochs = 20


VARIANTS = {"short": short}
