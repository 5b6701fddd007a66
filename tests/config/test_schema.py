import pytest

from cifar_flax.config import Config, Padding, ResolutionConfig
from cifar_flax.config.serialize import differences, from_dict, read_config, to_dict, validated, write_config
from cifar_flax.errors import UserError
from cifar_flax.models import BlockConfig, ResNet, SpeedNet, StageConfig
from cifar_flax.optim import MuonSGD


def changed(**fields):
    """The default config with fields set by path: optim__schedule="cosine"."""
    config = Config()
    for path, value in fields.items():
        *parents, name = path.split("__")
        section = config
        for parent in parents:
            section = getattr(section, parent)
        setattr(section, name, value)
    return config


def test_a_config_survives_the_way_through_json(tmp_path):
    config = changed(
        model__blocks=(BlockConfig(features=(3, 4), paddings=(Padding.VALID,)), BlockConfig()), optim__clip_norm=2.0
    )
    write_config(config, tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == config


def test_checking_gives_every_value_its_declared_type():
    config = validated(changed(optim__learning_rate=1, model__blocks=(BlockConfig(paddings=("VALID",)),)))
    assert isinstance(config.optim.learning_rate, float)
    assert config.model.blocks[0].paddings[0] is Padding.VALID


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optim__schedule": 3}, "config.optim.schedule: should be a valid string, not 3"),
        ({"train__batch_size": 2.5}, "config.train.batch_size: should be a valid integer, not 2.5"),
        ({"train__epochs": True}, "config.train.epochs"),
        ({"train__batch_size": 0}, "config.train.batch_size: should be greater than or equal to 1"),
        ({"optim__learning_rate": float("inf")}, "config.optim.learning_rate"),
        ({"optim__learning_rate": None}, "config.optim.learning_rate"),
        ({"data__validation_fraction": 1.0}, "config.data.validation_fraction: should be less than 1"),
        ({"data__image_size": 3}, "config.data.image_size"),
        ({"model__blocks": (BlockConfig(), BlockConfig(dropout=1.5))}, "config.model.blocks[1].dropout: should be less than 1"),
        ({"model__blocks": (BlockConfig(features=(0,)),)}, "config.model.blocks[0].features[0]"),
        ({"model__blocks": (BlockConfig(features=(3, 4, 5), kernel_sizes=(3, 3)),)}, "2 entries for 3 convolutions"),
        ({"model__blocks": (7,)}, "config.model.blocks[0]"),
        ({"data__folds": 5, "data__fold": 5}, "config.data.fold: 5 is not one of the 5 folds"),
        (
            {"seed": 2**32 - 1, "train__num_seeds": 2},
            "config.train.num_seeds: 2 seeds from 4294967295 on end beyond 4294967295, the last; set config.seed lower",
        ),
        (
            {"data__class_weights": "balanced", "data__sampling": "balanced"},
            "config.data.class_weights: balances the classes a second time, where config.data.sampling=balanced does already",
        ),
        ({"data__fold": 3}, "config.data.fold: 3 has no effect without config.data.folds; say of how many it is one"),
        ({"train__teacher_weight": 0.9}, "config.train.teacher_weight: 0.9 has no effect without config.train.teacher; name"),
        ({"train__teacher_temperature": 4.0}, "config.train.teacher_temperature: 4.0 has no effect without"),
        ({"augment__alternating_flip": True}, "config.augment.alternating_flip: needs config.augment.flip"),
        ({"plateau__patience": 2, "data__validation_fraction": 0.0}, "config.plateau: needs a validation split"),
        ({"early_stopping__patience": 2, "data__validation_fraction": 0.0}, "config.early_stopping: needs a validation split"),
        ({"optim__schedule": "cosine", "optim__boundaries": (2.0,)}, "config.optim.boundaries: (2.0,) has no effect"),
        ({"optim__freeze": ("block*",)}, "config.optim.freeze: ('block*',) would keep random parameters as they are"),
        (
            {"model": SpeedNet(), "optim__freeze": ("whitening/kernel", "stage0_*")},
            "name a run with trained ones: --config.train.init_from=RUN",
        ),
        ({"optim": MuonSGD(), "plateau__patience": 2}, "config.plateau: muon_sgd"),
        ({"model": SpeedNet(stages=(StageConfig(branch_features=(8, 8)),))}, "1 entries for 2 convolutions"),
        (
            {"model": SpeedNet(stages=(StageConfig(branch_features=(8,), residual=True),))},
            "config.model.stages[0].branch_features: a residual branch ends with as many channels as it begins with, 64",
        ),
        ({"model": ResNet(blocks=(2, 2))}, "config.model.blocks: 2 entries for 4 stages"),
        ({"train__resolutions": (ResolutionConfig(0.5), ResolutionConfig(0.5))}, "config.train.resolutions: expected rising"),
        ({"train__dtype": object()}, "config"),
    ],
)
def test_nonsense_is_refused_by_name(fields, message):
    with pytest.raises(UserError) as error:
        validated(changed(**fields))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"optim__schedule": "inverse_time", "optim__decay": 1e-6},
        {"optim__schedule": "piecewise", "optim__boundaries": (2.0,), "optim__decay_rate": 0.5},
        {"optim__schedule": "exponential", "optim__decay_rate": 0.5},
        {"optim__schedule": "linear", "optim__final_fraction": 0.5},
        {"data__fold": 3, "data__folds": 5},
        {"train__teacher": "runs/there", "train__teacher_weight": 0.9, "train__teacher_temperature": 4.0},
        {"optim__freeze": ("block*",), "train__init_from": "runs/there"},
        {"model": SpeedNet(), "optim__freeze": ("whitening/kernel",)},
    ],
)
def test_sense_is_not_refused(fields):
    validated(changed(**fields))


def test_unknown_fields_are_refused():
    values = to_dict(Config())
    values["optim"]["learning_rte"] = 1
    with pytest.raises(UserError, match=r"config\.optim\.learning_rte: no such field"):
        from_dict(values)
    with pytest.raises(AttributeError):
        changed(optim__learning_rte=1)


@pytest.mark.parametrize("content", ["", "[]", '{"seed": "x"}', '{"optim": 3}', "\x00"])
def test_a_damaged_config_file_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        read_config(tmp_path / "config.json")


def test_differences_name_the_leaves():
    a, b = (changed(seed=seed, model__blocks=(BlockConfig(dropout=seed / 10),)) for seed in (1, 2))
    assert differences(a, b) == {"config.seed": (1, 2), "config.model.blocks[0].dropout": (0.1, 0.2)}
    assert differences(a, a) == {}
    assert "config.model.blocks[0].pool" in differences(a, Config())
