from cifar_flax.config import Config
from cifar_flax.config.catalog import describe_fields
from cifar_flax.models import BlockConfig, ResNet, SpeedNet
from cifar_flax.optim import SGD


def marked(config):
    """The fields that are shown with a mark."""
    names = [line.removeprefix("config.").split(" = ")[0].split(" =  *")[0] for line in describe_fields(config).splitlines()]
    marks = [line.endswith("  *") for line in describe_fields(config).splitlines()]
    return [name for name, mark in zip(names, marks, strict=True) if mark]


def test_fields_that_differ_from_the_defaults_are_marked():
    config = Config()
    assert marked(config) == []
    config.optim.clip_norm, config.model.blocks = 2.0, (BlockConfig(),)
    assert sorted(marked(config)) == ["model.blocks", "optim.clip_norm"]


def test_fields_of_another_network_or_optimizer_are_compared_with_its_own_defaults():
    config = Config(model=ResNet(), optim=SGD())
    assert marked(config) == ["model.type", "optim.type"]
    config.optim.momentum = 0.9
    assert marked(config) == ["model.type", "optim.type", "optim.momentum"]
    assert SpeedNet().batch_norm_scale
    config.model = SpeedNet(batch_norm_scale=False)
    assert marked(config) == ["model.type", "model.batch_norm_scale", "optim.type", "optim.momentum"]
