"""CIFAR-100, ten minutes of one large GPU: a wide residual network with the tools of the speed runs.

    python launch/train.py --config=configs/summit.py

Wide residual network 28-10, 36.5 M parameters (Zagoruyko & Komodakis 2016), trained by Muon on images that grow, as `fast` is,
with CutMix on half of the images (Yun et al., 2019) and averaged weights. `:minute` has the network of `fast:long`, of
which a script of its own made 22 epochs in 8 s on an NVIDIA H200 (docs/recipes.md); `:hour` trains the large one for six times
as long.

Claim: none. It has not been trained. On one H100 or H200 it is, and scored, by
`python benchmarks/claims.py --only=summit,summit:minute --at_once=1`.
"""

from cifar_flax.config import Config, FillMode, ResolutionConfig, apply_variant
from cifar_flax.models import ResNet, SpeedNet, StageConfig
from cifar_flax.optim import MuonConfig, MuonSGD


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar100"
    c.data.validation_fraction = 0.0

    c.augment.flip = c.augment.alternating_flip = True
    c.augment.crop_padding = 4
    c.augment.crop_fill_mode = FillMode.REFLECT
    c.augment.cutmix = 1.0
    c.augment.mix_probability = 0.5

    c.model = ResNet(stem=16, features=(160, 320, 640), blocks=(4, 4, 4), preactivation=True)

    c.optim = MuonSGD(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, label_smoothing=0.1, ema_decay=0.998)
    c.optim.muon = MuonConfig(learning_rate=0.12, momentum=0.6, newton_schulz_steps=3)
    c.optim.schedule = "linear"
    c.optim.warmup_epochs = 8.0

    c.train.batch_size = 256
    c.train.epochs = 70
    c.train.resolutions = (ResolutionConfig(until=0.3, size=20), ResolutionConfig(until=0.7, size=24))
    return apply_variant(c, variant, VARIANTS)


def select(c: Config) -> None:
    """Choices are made with this one: 45,000 images to train on, 5,000 to validate with."""
    c.data.validation_fraction = 0.1


def minute(c: Config) -> None:
    """`fast:long` with CutMix, decay of all kernels and less smoothing, for 120 epochs."""
    stages = (
        StageConfig(96, 3, branch_features=(96, 96), branch_kernel_sizes=(3, 3), residual=True),
        StageConfig(352, 3, branch_features=(352, 352), branch_kernel_sizes=(3, 3), residual=True),
        StageConfig(768, 2, branch_features=(512, 768), branch_kernel_sizes=(3, 3), residual=True),
    )
    c.model = SpeedNet(stages=stages, batch_norm_momentum=0.9, batch_norm_epsilon=1e-8, batch_norm_scale=False)
    c.optim = MuonSGD(learning_rate=1.38, momentum=0.9, nesterov=True, weight_decay=5e-4, label_smoothing=0.1, ema_decay=0.99)
    c.optim.muon = MuonConfig(learning_rate=0.18, momentum=0.6, newton_schulz_steps=3)
    c.optim.freeze = ("whitening/kernel",)
    c.optim.schedule = "linear"
    c.optim.warmup_epochs = 20.0
    c.train.batch_size = 512
    c.train.epochs = 120


def hour(c: Config) -> None:
    """The large network for 400 epochs."""
    c.optim.warmup_epochs = 40.0
    c.train.epochs = 400


VARIANTS = {"select": select, "minute": minute, "hour": hour}
