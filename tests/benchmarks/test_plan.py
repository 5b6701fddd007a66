import pytest

from benchmarks.plan import Conv, Dense, Dropout, Residual, layers_of, multiply_adds
from cifar_flax.config import GlobalPool, ModelSpec
from cifar_flax.config.files import load_config
from cifar_flax.errors import UserError
from cifar_flax.models import ResNet, SpeedNet, StageConfig
from tests.conftest import ROOT


def test_multiply_adds_of_the_speed_runs_are_those_that_their_author_counts():
    fast = load_config(str(ROOT / "configs" / "fast.py")).model
    assert multiply_adds(layers_of(fast, 100), (32, 32, 3)) == pytest.approx(175e6, rel=0.01)
    stages = tuple(StageConfig(width, 3, (width,), (3,)) for width in (64, 256, 256))
    ten_classes = SpeedNet(stages=stages, global_pool=GlobalPool.MAX)
    assert multiply_adds(layers_of(ten_classes, 10), (32, 32, 3)) == pytest.approx(118e6, rel=0.01)


def test_multiply_adds_of_wide():
    """By hand: outputs times what each sees."""
    layers = layers_of(load_config(str(ROOT / "configs" / "wide.py")).model, 100)
    convolutions = 32**2 * 9 * 3 * 128 + 30**2 * 9 * 128 * 128  # 32x32 -> 30x30, pooled to 15x15
    convolutions += 15**2 * 9 * 128 * 256 + 13**2 * 9 * 256 * 256  # -> 13x13, pooled to 6x6
    convolutions += 6**2 * 9 * 256 * 512 + 4**2 * 9 * 512 * 512  # -> 4x4, pooled to 2x2
    assert multiply_adds(layers, (32, 32, 3)) == convolutions + 2 * 2 * 512 * 1024 + 1024 * 100


def test_a_branch_adds_to_the_work_and_keeps_the_shape():
    inner = (Conv("a", 4, 1, "SAME", False), Conv("b", 3, 3, "SAME", False))
    layers = (Residual(inner), Dropout(0.5), Conv("c", 2, 3, "VALID", True))
    assert multiply_adds(layers, (5, 5, 3)) == 25 * 3 * 4 + 25 * 9 * 4 * 3 + 9 * 9 * 3 * 2
    assert multiply_adds((Dense("d", 7, True),), (5,)) == 35


def test_multiply_adds_of_resnets_are_those_that_are_published():
    assert multiply_adds(layers_of(ResNet(), 100), (32, 32, 3)) == pytest.approx(0.56e9, rel=0.01)
    wide = load_config(str(ROOT / "configs" / "wrn_28_10.py")).model
    assert multiply_adds(layers_of(wide, 100), (32, 32, 3)) == pytest.approx(5.25e9, rel=0.01)


def test_a_network_of_ones_own_is_refused():
    class Mine(ModelSpec):
        pass

    with pytest.raises(UserError, match=r"config\.model\.name: .*Mine.*expected convnet, speednet or resnet"):
        layers_of(Mine(), 100)
