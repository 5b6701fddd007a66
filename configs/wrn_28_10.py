"""Wide residual network 28-10 for CIFAR-100, 36.5 M parameters, for one GPU: dropout, cutout and sharpness-aware minimisation.

    python launch/train.py --config=configs/wrn_28_10.py

Depth, width and dropout are Zagoruyko & Komodakis' (2016), cutout's 8 pixels DeVries & Taylor's (2017), and rho = .1 is that
which Foret et al. (2021) use on CIFAR-100.
"""

from cifar_flax.config import (
    Architecture,
    Config,
    Features,
    Initializer,
    OptimConfig,
    Optimizer,
    ResNetConfig,
    Schedule,
    apply_variant,
)


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar100"

    c.augment.flip = True
    c.augment.crop_padding = 4
    c.augment.cutout = 8

    c.model.name = Architecture.RESNET
    c.model.resnet = ResNetConfig(stem=16, features=(160, 320, 640), blocks=(4, 4, 4), preactivation=True, dropout=0.3)
    c.model.features = Features.MEAN
    c.model.kernel_init = Initializer.HE_NORMAL
    c.model.batch_norm_momentum = 0.9
    c.model.batch_norm_epsilon = 1e-5

    c.optim = OptimConfig(name=Optimizer.SGD, learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, sam_rho=0.1)
    c.optim.schedule = Schedule.COSINE
    c.optim.warmup_epochs = 1.0

    c.train.batch_size = 128
    c.train.epochs = 200
    return apply_variant(c, variant, {})
