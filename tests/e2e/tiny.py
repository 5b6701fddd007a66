"""All that a run can have, small: BatchNorm, dropout, augmentation, EMA, label smoothing, a schedule without horizon."""

from cifar_flax.config import BatchNorm, Config, Dtype
from cifar_flax.errors import UserError
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig


def get_config(variant: str = "") -> Config:
    if variant:
        raise UserError(f"no variant {variant!r}")
    c = Config()
    c.data.name = "tiny"
    c.augment.flip, c.augment.width_shift, c.augment.height_shift, c.augment.crop_padding = True, 0.1, 0.1, 1
    c.model = ConvNet(
        blocks=(BlockConfig(features=(8,), batch_norm=BatchNorm.CONV, dropout=0.1),), dense=(DenseConfig(16, dropout=0.2),)
    )
    c.optim.ema_decay, c.optim.label_smoothing = 0.9, 0.1
    c.train.epochs, c.train.batch_size, c.train.eval_batch_size = 2, 32, 40
    c.train.dtype = Dtype.FLOAT32  # the same numbers on every processor
    c.checkpoint.every_steps = 5
    c.log.every_steps, c.log.pictures = 1, False
    return c
