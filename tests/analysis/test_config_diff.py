from cifar_flax.analysis.config_diff import changed_fields, differing_fields, in_words
from cifar_flax.config import BlockConfig, Config, ResolutionConfig


def test_fields_that_are_not_the_default_are_told_at_any_depth_and_in_words():
    config = Config()
    assert changed_fields(config) == []
    config.seed, config.optim.ema_decay, config.optim.muon.learning_rate = 3, 0.99, 0.2
    config.model.resnet.stem, config.model.resnet.features = 16, (16, 32)
    config.optim.freeze = ("block*",)
    assert changed_fields(config) == [
        ("seed", "3", "0"),
        ("model.resnet.stem", "16", "64"),
        ("model.resnet.features", "16 32", "64 128 256 512"),
        ("optim.muon.learning_rate", "0.2", "0.18"),
        ("optim.freeze", "block*", "none"),
        ("optim.ema_decay", "0.99", "none"),
    ]


def test_a_block_is_a_line_of_what_it_does_not_have_by_default():
    config = Config()
    config.model.blocks = (BlockConfig(), BlockConfig(features=(8, 8), pool=1))
    config.train.resolutions = (ResolutionConfig(size=20),)
    assert changed_fields(config) == [
        ("model.blocks[0]", "features 64", ""),
        ("model.blocks[1]", "features 8 8, pool 1", ""),
        ("train.resolutions[0]", "until 0.5, size 20", ""),
    ]


def test_a_list_of_blocks_is_no_field_beside_those_of_its_blocks():
    values = {"config.seed": [1, 1], "config.model.blocks": [[], None], "config.model.blocks[0].pool": [None, 2]}
    assert differing_fields(values) == {"model.blocks[0].pool": [None, 2]}


def test_values_in_words():
    assert [in_words(value) for value in ({"jax": 1, "flax": 2}, [], (1, 2), None, 0.5)] == [
        *("jax 1, flax 2", "none", "1 2", "none", "0.5"),
    ]
