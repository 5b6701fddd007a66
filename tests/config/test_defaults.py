from dataclasses import dataclass, field

from cifar_flax.config import Config, ResolutionConfig
from cifar_flax.config.defaults import changed_fields, format_value
from cifar_flax.models import BlockConfig


def test_fields_that_differ_from_the_default_are_listed_with_it():
    config = Config()
    assert changed_fields(config) == []
    config.seed, config.optim.ema_decay, config.optim.freeze = 3, 0.99, ("block*",)
    config.augment.width_shift = 0.2
    assert {name: (value, default) for name, value, default in changed_fields(config)} == {
        "seed": ("3", "0"),
        "augment.width_shift": ("0.2", "0.0"),
        "optim.freeze": ("block*", "none"),
        "optim.ema_decay": ("0.99", "none"),
    }


def test_a_block_is_one_line_without_its_own_defaults():
    config = Config()
    config.model.blocks = (BlockConfig(), BlockConfig(features=(8, 8), pool=1))
    config.train.resolutions = (ResolutionConfig(size=20),)
    assert sorted(changed_fields(config)) == [
        ("model.blocks[0]", "features 64", ""),
        ("model.blocks[1]", "features 8 8, pool 1", ""),
        ("train.resolutions[0]", "until 0.5, size 20", ""),
    ]


@dataclass
class Mixer:
    """A spec that the default config does not have."""

    patch_size: int
    width: int = 128
    blocks: tuple[int, ...] = field(default_factory=tuple)


def test_a_spec_of_another_type_is_compared_with_its_own_defaults():
    config, default = Config(), type(Config().model).__name__
    config.model = Mixer(patch_size=4, width=64)
    assert changed_fields(config) == [
        ("model", "Mixer", default),
        ("model.patch_size", "4", ""),
        ("model.width", "64", "128"),
    ]


def test_values_are_formatted_in_one_line():
    values = ({"jax": 1, "flax": 2}, [], (1, 2), None, 0.5)
    assert [format_value(value) for value in values] == ["jax 1, flax 2", "none", "1 2", "none", "0.5"]
