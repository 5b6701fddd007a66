"""The contract of a user's module, as the docstring of ModelSpec states it."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cifar_flax.config import Config, ModelSpec
from cifar_flax.config.registry import MODELS
from cifar_flax.errors import ConfigError
from cifar_flax.models import check_module, check_sizes, create_model, initialize

SHAPE = (8, 8, 3)


class Good(nn.Module):
    """BatchNorm of Flax, dropout, and float32 logits."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x))
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(10)(x)


class Raising(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        assert x.shape[1] % 5 == 0, "H must be a multiple of 5"
        return nn.Dense(10)(x.mean((1, 2)))


class Misspelt(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(10)(x.meen((1, 2)))


class WithoutTrain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(x.mean((1, 2)))


class OtherWidth(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(11)(x.mean((1, 2)))


class HalfLogits(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(10, dtype=jnp.bfloat16)(x.mean((1, 2)))


class WithFeatures(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = x.mean((1, 2))
        return nn.Dense(10)(x), x


class OtherCollection(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        self.variable("counts", "calls", jnp.zeros, ())
        return nn.Dense(10)(x.mean((1, 2)))


class OtherRandomness(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        noise = jax.random.normal(self.make_rng("noise"), x.shape) if train else 0
        return nn.Dense(10)((x + noise).mean((1, 2)))


class WithoutParameters(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return jnp.zeros((x.shape[0], 10))


class GrowingStatistics(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        if train:
            self.variable("batch_stats", "late", jnp.zeros, ())
        return nn.Dense(10)(x.mean((1, 2)))


class HalfParameters(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(10, param_dtype=jnp.bfloat16)(x.mean((1, 2))).astype(jnp.float32)


class HalfStatistics(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        self.variable("batch_stats", "mean", jnp.zeros, (), jnp.bfloat16)
        return nn.Dense(10)(x.mean((1, 2)))


def test_a_module_that_keeps_the_contract_is_accepted():
    check_module(Good(), SHAPE, 10)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_networks_here_keep_the_contract(name):
    spec = MODELS.resolve(name, "")()
    for dtype in (jnp.float32, jnp.bfloat16):
        check_module(create_model(spec, 10, dtype), (16, 16, 3), 10)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            Raising(),
            "test_modules:Raising raised AssertionError: H must be a multiple of 5 (test_modules.py, line ",
        ),
        (Misspelt(), "test_modules:Misspelt raised AttributeError: "),
        (WithoutTrain(), "unexpected keyword argument 'train'; help(cifar_flax.ModelSpec) says how a module is called"),
        (OtherWidth(), "returns float32 [2, 11] for 2 images with train=False; expected logits, float32 [2, 10]"),
        (HalfLogits(), "returns bfloat16 [2, 10] for 2 images with train=False; expected logits, float32 [2, 10]"),
        (WithFeatures(), "returns a tuple with train=False; expected logits alone"),
        (OtherCollection(), "has variables in ['counts']; expected none but in 'params' and 'batch_stats'"),
        (OtherRandomness(), "noise"),
        (WithoutParameters(), "has no parameters, so that there is nothing to train"),
        (HalfParameters(), "params/Dense_0/bias is bfloat16; expected float32, whatever the dtype of activations"),
        (HalfStatistics(), "batch_stats/mean is bfloat16; expected float32"),
        (GrowingStatistics(), "training changes the names, shapes or dtypes of the 'batch_stats'"),
    ],
)
def test_a_module_that_breaks_the_contract_costs_a_line(module, message):
    with pytest.raises(ConfigError) as error:
        check_module(module, SHAPE, 10)
    assert str(error.value).startswith("config.model: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_another_size_that_a_network_does_not_take_is_refused_by_its_field():
    class OnlyEight(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            assert x.shape[1] == 8, "a map of 8x8 expected"
            return nn.Dense(10)(x.mean((1, 2)))

    with pytest.raises(ConfigError) as error:
        check_sizes(OnlyEight(), SHAPE, {"config.train.resolutions[0].size": 4})
    assert str(error.value).startswith("config.train.resolutions[0].size: this network cannot take 4x4 images: ")
    assert "a map of 8x8 expected (test_modules.py, line " in str(error.value)


def test_an_error_of_build_is_a_line_with_its_place():
    @dataclass(slots=True)
    class Broken(ModelSpec):
        def build(self, num_classes: int, dtype: Any):
            return {}["width"]

    with pytest.raises(
        ConfigError, match=r"^config\.model: build\(\) of .*Broken raised KeyError: 'width' \(test_modules\.py, line"
    ):
        create_model(Broken(), 10)


def test_build_has_to_return_a_module():
    @dataclass(slots=True)
    class Wrong(ModelSpec):
        def build(self, num_classes: int, dtype: Any):
            return 3

    with pytest.raises(ConfigError, match=r"^config\.model: build\(\) of .*Wrong returned a int"):
        create_model(Wrong(), 10)


def test_images_reach_the_initialisation():
    class Mean(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dense(10)(x.mean((1, 2)) - self.param("mean", lambda key: x.mean((0, 1, 2))))

    variables = initialize(Mean(), jax.random.key(0), jnp.full((4, *SHAPE), 2.0))
    assert variables["params"]["mean"].tolist() == [2.0] * 3


def test_the_default_network_is_a_convnet():
    assert Config().model.name == "convnet"
