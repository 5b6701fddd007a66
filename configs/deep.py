"""The narrow ELU network made deeper: 32-32 / 64-64 / 128-128, 600,964 parameters, on CIFAR-100.

    python launch/train.py --config=configs/deep.py

"I was only able to get a maximum accuracy of 0.55 when adding two more layers", says the author of the wide network.
"""

from cifar_flax.config import (
    Activation,
    Config,
    Normalization,
    Padding,
    apply_variant,
)
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig
from cifar_flax.optim import RMSprop


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar100"
    c.data.normalization = Normalization.UNIT

    c.augment.flip = True
    c.augment.width_shift = c.augment.height_shift = 0.1

    c.model = ConvNet(
        activation=Activation.ELU,
        blocks=tuple(
            BlockConfig(features=(width, width), paddings=(Padding.SAME, Padding.VALID), dropout=0.25)
            for width in (32, 64, 128)
        ),
        dense=(DenseConfig(512, dropout=0.5),),
    )

    c.optim = RMSprop(learning_rate=1e-4)
    c.optim.schedule = "inverse_time"
    c.optim.decay = 1e-6

    c.train.batch_size = 64
    c.train.epochs = 200
    return apply_variant(c, variant, {})
