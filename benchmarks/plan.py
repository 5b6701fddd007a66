"""A network as a list of layers, read off its config: what the other frameworks build, and how much work it is."""

import math
from dataclasses import dataclass

from cifar_flax.config import ModelSpec
from cifar_flax.config.types import Activation, BatchNorm, GlobalPool
from cifar_flax.errors import UserError
from cifar_flax.models.convnet import BlockConfig, ConvNet
from cifar_flax.models.resnet import ResNet
from cifar_flax.models.speednet import WHITENING_SIZE, SpeedNet


@dataclass(frozen=True)
class Conv:
    """Convolution with a square kernel; its parameters are `name/kernel` and `name/bias`."""

    name: str
    features: int
    size: int
    padding: str | int  # "SAME", whose odd row and column are at the end, "VALID", or pixels on every side
    bias: bool
    stride: int = 1


@dataclass(frozen=True)
class Norm:
    """BatchNorm; its parameters are `name/scale` and `name/bias`, its statistics `name/mean` and `name/var`."""

    name: str
    scale: bool
    momentum: float
    epsilon: float


@dataclass(frozen=True)
class Activate:
    """An activation function."""

    function: Activation


@dataclass(frozen=True)
class MaxPool:
    """Max pooling, stride = window."""

    window: int


@dataclass(frozen=True)
class Dropout:
    """Dropout of single activations."""

    rate: float


@dataclass(frozen=True)
class Vector:
    """The feature map as a vector; flattened, it is in the order rows, columns, channels."""

    how: GlobalPool


@dataclass(frozen=True)
class Dense:
    """A matrix product; its parameters are `name/kernel` and `name/bias`."""

    name: str
    features: int
    bias: bool


@dataclass(frozen=True)
class Scale:
    """A constant factor."""

    factor: float


@dataclass(frozen=True)
class Residual:
    """Sum of layers and a shortcut of the same input; without a shortcut, of layers and the input itself."""

    layers: tuple["Layer", ...]
    shortcut: tuple["Layer", ...] = ()


Layer = Conv | Norm | Activate | MaxPool | Dropout | Vector | Dense | Scale | Residual


def layers_of(model: ModelSpec, num_classes: int) -> tuple[Layer, ...]:
    """The layers of a network of the package, in the order in which they are applied.

    Raises:
      UserError: it is none of those.
    """
    if isinstance(model, ConvNet):
        return _convnet(model, num_classes)
    if isinstance(model, SpeedNet):
        return _speednet(model, num_classes)
    if isinstance(model, ResNet):
        return _resnet(model, num_classes)
    raise UserError(
        f"config.model.name: the other frameworks have no {model.name} here; expected convnet, speednet or resnet, "
        "or --frameworks=jax"
    )


def multiply_adds(layers: tuple[Layer, ...], image_shape: tuple[int, int, int]) -> int:
    """Multiply-adds of one image [H, W, C] through convolutions and matrix products; products with padding count too."""
    return _count(layers, image_shape)[0]


def _convnet(model: ConvNet, num_classes: int) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for i, block in enumerate(model.blocks):
        layers += _block(block, model, f"block{i}")
    layers.append(Vector(model.global_pool))
    for i, dense in enumerate(model.dense):
        layers += [Dense(f"dense{i}", dense.features, True), Activate(dense.activation or model.activation)]
        layers.append(Dropout(dense.dropout))
    return (*layers, Dense("logits", num_classes, True))


def _block(block: BlockConfig, model: ConvNet, name: str) -> list[Layer]:
    layers: list[Layer] = []
    for i, features in enumerate(block.features):
        size, padding = block.kernel_sizes[i % len(block.kernel_sizes)], block.paddings[i % len(block.paddings)]
        activations = block.activations or (model.activation,)
        layers.append(Conv(f"{name}_conv{i}", features, size, str(padding), block.batch_norm is not BatchNorm.CONV))
        if block.batch_norm is BatchNorm.CONV:
            layers.append(Norm(f"{name}_conv{i}_norm", True, model.batch_norm_momentum, model.batch_norm_epsilon))
        layers.append(Activate(activations[i % len(activations)]))
    if block.batch_norm is BatchNorm.BLOCK:
        layers.append(Norm(f"{name}_norm", True, model.batch_norm_momentum, model.batch_norm_epsilon))
    return [*layers, MaxPool(block.pool), Dropout(block.dropout)]


def _speednet(model: SpeedNet, num_classes: int) -> tuple[Layer, ...]:
    def normed(name: str, *layers: Layer) -> list[Layer]:
        norm = Norm(f"{name}_norm", model.batch_norm_scale, model.batch_norm_momentum, model.batch_norm_epsilon)
        return [*layers, norm, Activate(model.activation)]

    channels = 2 * 3 * WHITENING_SIZE**2
    layers: list[Layer] = [Conv("whitening", channels, WHITENING_SIZE, "VALID", True), Activate(model.activation)]
    for i, stage in enumerate(model.stages):
        name = f"stage{i}_conv"
        layers += normed(name, Conv(name, stage.features, stage.kernel_size, "SAME", False), MaxPool(2))
        branch: list[Layer] = []
        for j, (features, size) in enumerate(zip(stage.branch_features, stage.branch_kernel_sizes, strict=True)):
            name = f"stage{i}_branch{j}"
            branch += normed(name, Conv(name, features, size, "SAME", False))
        layers += [Residual(tuple(branch))] if stage.residual else branch
    return (*layers, Vector(model.global_pool), Dense("logits", num_classes, False), Scale(model.logit_scale))


def _resnet(model: ResNet, num_classes: int) -> tuple[Layer, ...]:
    def norm(name: str) -> Norm:
        return Norm(name, True, model.batch_norm_momentum, model.batch_norm_epsilon)

    def conv(name: str, features: int, size: int = 3, stride: int = 1) -> Conv:
        return Conv(name, features, size, size // 2, False, stride)

    activate, channels = Activate(model.activation), model.stem
    layers: list[Layer] = [conv("stem", model.stem)]
    layers += [] if model.preactivation else [norm("stem_norm"), activate]
    for i, (features, blocks) in enumerate(zip(model.features, model.blocks, strict=True)):
        for j in range(blocks):
            name, stride = f"stage{i}_block{j}", 2 if i and not j else 1
            first, second = conv(f"{name}_conv0", features, stride=stride), conv(f"{name}_conv1", features)
            changes, shortcut = stride > 1 or channels != features, conv(f"{name}_shortcut", features, 1, stride)
            if model.preactivation:
                before: list[Layer] = [norm(f"{name}_norm0"), activate]
                body: list[Layer] = [first, norm(f"{name}_norm1"), activate, Dropout(model.dropout), second]
                layers += [*before, Residual((*body,), (shortcut,))] if changes else [Residual((*before, *body))]
            else:
                body = [first, norm(f"{name}_norm0"), activate, Dropout(model.dropout), second, norm(f"{name}_norm1")]
                layers += [Residual((*body,), (shortcut, norm(f"{name}_shortcut_norm")) if changes else ()), activate]
            channels = features
    layers += [norm("norm"), activate] if model.preactivation else []
    return (*layers, Vector(model.global_pool), Dense("logits", num_classes, True))


def _count(layers: tuple[Layer, ...], shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    total = 0
    for layer in layers:
        match layer:
            case Conv(features=features, size=size, padding=padding, stride=stride):
                lost = size - 1 - (2 * padding if isinstance(padding, int) else size - 1 if padding == "SAME" else 0)
                height, width, channels = shape
                shape = ((height - lost - 1) // stride + 1, (width - lost - 1) // stride + 1, features)
                total += math.prod(shape) * size * size * channels
            case MaxPool(window=window):
                shape = (shape[0] // window, shape[1] // window, shape[2])
            case Vector(how=how):
                shape = (math.prod(shape),) if how is GlobalPool.FLATTEN else shape[2:]
            case Dense(features=features):
                total += shape[0] * features
                shape = (features,)
            case Residual(layers=inner, shortcut=shortcut):
                total += _count(shortcut, shape)[0]
                more, shape = _count(inner, shape)
                total += more
    return total, shape
