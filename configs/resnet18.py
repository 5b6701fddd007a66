"""ResNet-18 for CIFAR-100, 11.2 M parameters, for one GPU: the usual 200 epochs of SGD with a cosine schedule.

    python launch/train.py --config=configs/resnet18.py

Pixels are padded by 4 before random crops; the stem is a 3x3 convolution without pooling, as is usual on images of 32x32.
"""

from cifar_flax.config import Config, apply_variant
from cifar_flax.models import ResNet
from cifar_flax.optim import SGD


def get_config(variant: str = "") -> Config:
    c = Config()
    c.data.name = "cifar100"

    c.augment.flip = True
    c.augment.crop_padding = 4

    c.model = ResNet()

    c.optim = SGD(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    c.optim.schedule = "cosine"
    c.optim.warmup_epochs = 1.0

    c.train.batch_size = 128
    c.train.epochs = 200
    return apply_variant(c, variant, {})
