import pytest

from cifar_flax.config.effects import without_effect
from tests.helpers.overrides import experiment


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["plateau.factor=.5"], ["config.plateau.factor has no effect without config.plateau.patience"]),
        (["plateau.factor=.5", "plateau.patience=2"], []),
        (["plateau.patience=0"], []),
        (
            ["early_stopping.monitor=top1"],
            ["config.early_stopping.monitor has no effect without config.early_stopping.patience"],
        ),
        (
            ["augment.mix-probability=.5"],
            ["config.augment.mix_probability has no effect without config.augment.mixup or cutmix"],
        ),
        (["augment.mix_probability=.5", "augment.cutmix=1"], []),
        (["augment.rand_augment_layers=1", "augment.policy=rand_augment"], []),
        (
            ["augment.rand_augment_layers=1"],
            ["config.augment.rand_augment_layers has no effect without config.augment.policy=rand_augment"],
        ),
        (["data.test_fraction=.3"], ["config.data.test_fraction has no effect but on config.data.name=folder:PATH"]),
        (["data.test_fraction=.3", "data.name=folder:x"], []),
        (
            ["data.folds=5", "data.validation_fraction=.2"],
            ["config.data.validation_fraction has no effect beside config.data.folds"],
        ),
        (["optim.learning_rate=.1", "augment.flip=false"], []),
    ],
)
def test_fields_that_flags_set_in_vain_are_named(flags, expected):
    asked = experiment("--config=quickstart", *(f"--config.{flag}" for flag in flags))
    assert without_effect(asked.config, asked.overridden) == expected
