"""VGG-style BatchNorm network on CIFAR-100: 64-64 / 128-128 / 256x3 / 512x3, dense 512 with a sigmoid, 8,737,572 parameters.

    python launch/train.py --config=configs/vgg_bn.py

The write-up reports .63, which it calls training accuracy, with dropout, augmentation and 120 epochs. `:base` is the network
without either (.4856), `:augment` and `:dropout` have one of them (.592, .53). Built on `:base` are `:two_dense` (.51),
`:one_block` (.48, of training), `:five_blocks` (.4875) and, with three plain convolutions, `:baseline` (.366). `:search` has
the 20 epochs of the write-up's random search, `configs/search/vgg_bn_random.py`.

Claim: `:short` 70.76 % test, 70.94 % validation top-1, n = 1, 84 min partly beside other work on two AVX-512 cores
(2026-11-26). The 120 epochs have not been run.
"""

from dataclasses import replace

from cifar_flax.config import Activation, AugmentConfig, BatchNorm, Config, Initializer, Normalization, apply_variant
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig
from cifar_flax.optim import MuonConfig, MuonSGD


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar100"
    c.data.normalization = Normalization.UNIT

    c.augment.flip = True
    c.augment.rotation = 15.0
    c.augment.width_shift = c.augment.height_shift = 0.1

    c.model = network(dropout=0.5)

    c.train.batch_size = 128
    c.train.epochs = 120
    return apply_variant(c, variant, VARIANTS)


BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3))  # channels and number of convolutions


def network(dropout: float = 0.0, blocks: tuple[tuple[int, int], ...] = BLOCKS, dense_layers: int = 1) -> ConvNet:
    spec = ConvNet(
        blocks=tuple(BlockConfig(features=(width,) * count, batch_norm=BatchNorm.BLOCK) for width, count in blocks),
        dense=(DenseConfig(512, Activation.SIGMOID),) * dense_layers,
    )
    spec.blocks[-1].dropout = dropout
    return spec


def short(c: Config) -> None:
    """Muon, kernels that begin as the identity (dirac), no rotation, smoothed labels, statistics that forget faster."""
    c.data.normalization = Normalization.STANDARDIZE
    c.augment.rotation = 0.0
    c.model = replace(network(dropout=0.5), kernel_init=Initializer.DIRAC, batch_norm_momentum=0.9)
    c.optim = MuonSGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4, label_smoothing=0.1)
    c.optim.muon = MuonConfig(learning_rate=0.05)
    c.optim.schedule = "cosine"
    c.optim.warmup_epochs = 1.0
    c.train.epochs = 15


def no_augmentation(c: Config) -> None:
    """Dropout and no augmentation: .53 in the write-up."""
    c.augment = AugmentConfig()


def no_dropout(c: Config) -> None:
    """Augmentation and no dropout: .592 in the write-up."""
    c.model = network()


def base(c: Config) -> None:
    """Neither augmentation nor dropout: .4856 in the write-up."""
    no_augmentation(c)
    no_dropout(c)


def two_dense(c: Config) -> None:
    """`:base` with two dense layers: .51 in the write-up."""
    base(c)
    c.model = network(dense_layers=2)


def one_block(c: Config) -> None:
    """`:base` with one block: .48 of training in the write-up."""
    base(c)
    c.model = network(blocks=BLOCKS[:1])


def five_blocks(c: Config) -> None:
    """`:base` with five blocks: .4875 in the write-up."""
    base(c)
    c.model = network(blocks=(*BLOCKS, (512, 3)))


def baseline(c: Config) -> None:
    """`:base` with three plain convolutions: .366 in the write-up."""
    base(c)
    c.model = ConvNet(blocks=tuple(BlockConfig(features=(width,)) for width in (32, 64, 128)), dense=(DenseConfig(512),))


def search(c: Config) -> None:
    """For 20 epochs, as each trial of the write-up's random search."""
    c.train.epochs = 20


VARIANTS = {
    "short": short,
    "search": search,
    "base": base,
    "augment": no_dropout,
    "dropout": no_augmentation,
    "two_dense": two_dense,
    "one_block": one_block,
    "five_blocks": five_blocks,
    "baseline": baseline,
}
