from cifar_flax.config import Config
from cifar_flax.models import BlockConfig, ResNet
from cifar_flax.optim import SGD
from cifar_flax.training.writers.summary import hyperparameters


def test_hyperparameters_are_the_differences_from_the_defaults():
    config = Config()
    config.optim.clip_norm, config.optim.boundaries = 2.0, (1.0, 2.0)
    config.model.blocks = (BlockConfig(pool=1),)
    chosen = hyperparameters(config)
    blocks = {path: value for path, value in chosen.items() if path.startswith("model.blocks")}
    assert "model.blocks" not in blocks  # only the fields of each block
    assert blocks["model.blocks[0].pool"] == 1
    rest = {path: value for path, value in chosen.items() if path not in blocks}
    assert rest == {"optim.boundaries": "1.0 2.0", "optim.clip_norm": 2.0, "optim.learning_rate": 1e-3}


def test_hyperparameters_of_another_spec_are_the_differences_from_its_own_defaults():
    chosen = hyperparameters(Config(model=ResNet(stem=8), optim=SGD(momentum=0.5)))
    assert chosen == {
        "model.type": "cifar_flax.models.resnet:ResNet",
        "model.stem": 8,
        "optim.type": "cifar_flax.optim.sgd:SGD",
        "optim.momentum": 0.5,
        "optim.learning_rate": 1e-3,
    }
