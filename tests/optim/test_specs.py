"""What the specs of optimizers refuse, and how a config names them."""

from dataclasses import dataclass

import optax
import pytest

from cifar_flax.config import Config, GroupConfig, OptimizerSpec
from cifar_flax.config.registry import OPTIMIZERS
from cifar_flax.config.serialize import from_dict, to_dict, validated
from cifar_flax.errors import ConfigError
from cifar_flax.optim import SGD, Adam, AdamW, Lion, Muon, MuonSGD, RMSprop

DECAYED = (GroupConfig("logits/*", weight_decay=0.1),)


@dataclass(slots=True)
class SignSGD(OptimizerSpec):
    """A user's own optimizer."""

    floor: float = 0.0

    def transform(self, schedule):
        return optax.chain(optax.scale_by_sign(), optax.scale_by_learning_rate(schedule))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_is_valid_as_it_is_and_survives_json(name):
    config = Config(optim=OPTIMIZERS.resolve(name, "")(learning_rate=0.25, schedule="cosine"))
    assert config.optim.name == name
    assert from_dict(to_dict(config)) == config


def test_a_users_own_optimizer_is_named_by_import_path():
    config = Config(optim=SignSGD(floor=0.5))
    assert to_dict(config)["optim"]["type"] == f"{__name__}:SignSGD"
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("optim", "message"),
    [
        (SGD(nesterov=True), r"nesterov: needs config\.optim\.momentum above 0"),
        (MuonSGD(nesterov=True), r"nesterov: needs config\.optim\.momentum above 0"),
        (Adam(groups=DECAYED), r"groups\[0\]\.weight_decay: adam has no weight decay; use --config\.optim\.name=adamw"),
        (
            RMSprop(groups=DECAYED),
            r"groups\[0\]\.weight_decay: rmsprop has .*; expected one of adamw, lion, sgd, muon",
        ),
        (SignSGD(groups=DECAYED), r"groups\[0\]\.weight_decay: .*:SignSGD has no weight decay"),
        (Adam(decay=1e-6), "decay: 1e-06 has no effect with schedule constant; set it to 0.0, or .*schedule=inverse_time"),
        (Adam(schedule="linear", decay_rate=0.5), r"decay_rate: .*schedule=exponential or piecewise"),
        (Adam(schedule="one_cycle", final_fraction=0.1), r"final_fraction: .*schedule=cosine or linear"),
        (Adam(initial_fraction=0.1), r"initial_fraction: 0\.1 has no effect without config\.optim\.warmup_epochs"),
        (Adam(schedule="one_cycle", initial_fraction=0.1, warmup_epochs=1.0), "initial_fraction: 0.1 has no effect"),
        (Adam(schedule="piecewise", boundaries=(3.0, 2.0)), r"boundaries: expected rising epochs after warm-up, not \(3"),
        (Adam(schedule="piecewise", boundaries=(2.0,), warmup_epochs=3.0), "boundaries: expected rising epochs"),
        (SignSGD(schedule="nothing"), "schedule: there is no schedule 'nothing'"),
    ],
)
def test_settings_without_effect_are_refused_by_field(optim, message):
    with pytest.raises(ConfigError, match=rf"^config\.optim\.{message}") as error:
        validated(Config(optim=optim))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("optim", [AdamW(groups=DECAYED), Lion(groups=DECAYED), Muon(nesterov=True), SGD(momentum=0.1)])
def test_settings_with_an_effect_pass(optim):
    validated(Config(optim=optim))


def test_muon_sgd_refuses_a_plateau():
    config = Config(optim=MuonSGD())
    config.plateau.patience = 2
    with pytest.raises(ConfigError, match=r"^config\.plateau: muon_sgd brings kernels to their norm"):
        validated(config)
