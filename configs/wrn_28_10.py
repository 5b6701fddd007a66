"""Wide residual network 28-10 for CIFAR-100, 36.5 M parameters, for one GPU: dropout, cutout and sharpness-aware minimisation.

    python launch/train.py --config=configs/wrn_28_10.py

Depth, width and dropout are from Zagoruyko & Komodakis (2016), the 8 pixels of cutout from DeVries & Taylor (2017), and
rho = .1 from Foret et al. (2021).
"""

from cifar_flax.config import Config, apply_variant
from cifar_flax.models import ResNet
from cifar_flax.optim import SGD


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar100"

    c.augment.flip = True
    c.augment.crop_padding = 4
    c.augment.cutout = 8

    c.model = ResNet(stem=16, features=(160, 320, 640), blocks=(4, 4, 4), preactivation=True, dropout=0.3)

    c.optim = SGD(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, sam_rho=0.1)
    c.optim.schedule = "cosine"
    c.optim.warmup_epochs = 1.0

    c.train.batch_size = 128
    c.train.epochs = 200
    return apply_variant(c, variant, {})
