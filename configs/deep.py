"""The narrow ELU network made deeper: 32-32 / 64-64 / 128-128, 600,964 parameters, on CIFAR-100.

    python launch/train.py --config=configs/deep.py

"I was only able to get a maximum accuracy of 0.55 when adding two more layers", says the author of the wide network.
"""

from cifar_flax.config import (
    Activation,
    BlockConfig,
    Config,
    DenseConfig,
    Normalization,
    Optimizer,
    Padding,
    Schedule,
    apply_variant,
)


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar100"
    c.data.normalization = Normalization.UNIT

    c.augment.flip = True
    c.augment.width_shift = c.augment.height_shift = 0.1

    c.model.activation = Activation.ELU
    c.model.blocks = tuple(
        BlockConfig(features=(width, width), paddings=(Padding.SAME, Padding.VALID), dropout=0.25) for width in (32, 64, 128)
    )
    c.model.dense = (DenseConfig(512, dropout=0.5),)

    c.optim.name = Optimizer.RMSPROP
    c.optim.learning_rate = 1e-4
    c.optim.schedule = Schedule.INVERSE_TIME
    c.optim.decay = 1e-6

    c.train.batch_size = 64
    c.train.epochs = 200
    return apply_variant(c, variant, {})
