import json
import sys
import types
from dataclasses import dataclass

import pytest

from cifar_flax import Config, ModelSpec, OptimizerSpec
from cifar_flax.config.fields import missing_field, with_values
from cifar_flax.config.registry import MODELS
from cifar_flax.config.serialize import differences, from_dict, read_config, to_dict, validated, write_config
from cifar_flax.config.specs import swap_class
from cifar_flax.errors import ConfigError
from cifar_flax.models import ConvNet, DenseConfig, ResNet
from cifar_flax.optim import SGD, Adam

SOURCE = """
from dataclasses import dataclass
from typing import Annotated
from annotated_types import Ge
from cifar_flax import ModelSpec, OptimizerSpec
from cifar_flax.errors import ConfigError

@dataclass(slots=True)
class Part:
    size: Annotated[int, Ge(1)] = 1

@dataclass(slots=True)
class Mine(ModelSpec):
    depth: Annotated[int, Ge(1)] = 1
    parts: tuple[Part, ...] = ()
    backbone: ModelSpec | None = None

    def build(self, num_classes, dtype):
        raise AssertionError

    def check(self):
        if self.depth == 13:
            raise ConfigError("depth: 13 is bad luck")
        assert self.depth != 14, "14 is, too"

@dataclass
class Rule(OptimizerSpec):
    strength: float = 1.0

    def transform(self, schedule):
        raise AssertionError

class Undecorated(Mine):
    pass

@dataclass(slots=True)
class Unbuilt(ModelSpec):
    pass

@dataclass(slots=True)
class Misnamed(ModelSpec):
    type: str = ""

    def build(self, num_classes, dtype):
        raise AssertionError

executed = []

def function():
    executed.append(1)
"""


@pytest.fixture(scope="module")
def mine():
    """A user's module."""
    module = types.ModuleType("mine_with_specs")
    sys.modules[module.__name__] = module
    exec(SOURCE, module.__dict__)
    yield module
    del sys.modules[module.__name__]


def test_specs_of_a_user_survive_the_way_through_json(mine, tmp_path):
    config = Config()
    config.model = mine.Mine(2, (mine.Part(3),), backbone=ResNet(stem=8))
    config.optim = mine.Rule(strength=2.0, learning_rate=0.5)
    write_config(config, tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == config
    written = json.loads((tmp_path / "config.json").read_text())
    assert next(iter(written["model"])) == "type"
    assert written["model"]["type"] == "mine_with_specs:Mine"
    assert written["model"]["backbone"]["type"] == "cifar_flax.models.resnet:ResNet"
    assert written["optim"]["strength"] == 2.0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"depth": 0}, "config.model.depth: should be greater than or equal to 1, not 0"),
        ({"depth": 13}, "config.model.depth: 13 is bad luck"),
        ({"depth": 14}, "config.model: check() of mine_with_specs:Mine raised AssertionError: 14 is, too"),
        ({"parts": [{"size": 1}, {"size": 0}]}, "config.model.parts[1].size: should be greater than or equal to 1, not 0"),
        ({"dpeth": 1}, "config.model.dpeth: no such field"),
        ({"backbone": {"type": "cifar_flax.models.resnet:ResNet", "stem": 0}}, "config.model.backbone.stem: should be greater"),
        ({"backbone": {"type": "mine_with_specs:Rule"}}, "config.model.backbone.type: mine_with_specs:Rule is no ModelSpec"),
        ({"type": "mine_with_specs:Rule"}, "config.model.type: mine_with_specs:Rule is no ModelSpec"),
        ({"type": "mine_with_specs:function"}, "config.model.type: mine_with_specs:function is no ModelSpec"),
        ({"type": "mine_with_specs:Undecorated"}, "config.model.type: mine_with_specs:Undecorated is no dataclass"),
        ({"type": "mine_with_specs:Unbuilt"}, "config.model.type: mine_with_specs:Unbuilt has no method build"),
        ({"type": "mine_with_specs:Misnamed"}, "config.model.type: mine_with_specs:Misnamed has a field called type"),
        ({"type": "mine_with_specs:Nothing"}, "config.model.type: the module mine_with_specs has no Nothing"),
        ({"type": "os:system"}, "config.model.type: os:system is no ModelSpec"),
        ({"type": 3}, "config.model: has no type"),
    ],
)
def test_a_faulty_spec_costs_a_line_with_the_field(mine, model, message):
    values = to_dict(Config())
    values["model"] = {"type": "mine_with_specs:Mine", **model}
    with pytest.raises(ConfigError) as error:
        from_dict(values)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not mine.executed


def test_a_config_of_an_older_version_is_refused_in_a_line():
    values = to_dict(Config())
    values["model"] = {"name": "convnet", "blocks": []}
    with pytest.raises(ConfigError, match=r"^config\.model: has no type; it is not of this version of cifar_flax$"):
        from_dict(values)


def test_a_class_that_other_processes_cannot_import_is_refused():
    @dataclass(slots=True)
    class Local(ModelSpec):
        def build(self, num_classes, dtype):
            raise AssertionError

    config = Config()
    config.model = Local()
    with pytest.raises(ConfigError, match="define it at the top level of a module of its own"):
        validated(config)


def test_the_name_of_a_spec_is_short_where_it_is_registered(mine):
    assert (ConvNet().name, SGD().name) == ("convnet", "sgd")
    assert mine.Mine().name == "mine_with_specs:Mine"


def test_swapping_keeps_the_common_fields_of_an_optimizer(mine):
    adam = Adam(learning_rate=0.5, label_smoothing=0.1, b1=0.8, freeze=("a",))
    assert swap_class(adam, "adam") is adam
    assert swap_class(adam, "sgd") == SGD(learning_rate=0.5, label_smoothing=0.1, freeze=("a",))
    assert swap_class(adam, "mine_with_specs:Rule") == mine.Rule(learning_rate=0.5, label_smoothing=0.1, freeze=("a",))
    assert swap_class(ConvNet(dense=(DenseConfig(),)), "resnet") == ResNet()


@pytest.mark.parametrize("name", ["sdg", "mine_with_specs:Mine"])
def test_swapping_to_no_optimizer_is_refused(mine, name):
    with pytest.raises(ConfigError, match=r"^config\.optim\.(name|type): "):
        swap_class(Adam(), name)


def test_values_are_set_by_path_whatever_their_order():
    base = Config()
    config = with_values(base, {"optim.momentum": 0.9, "optim.name": "sgd", "train.epochs": 3})
    assert (config.optim, config.train.epochs) == (SGD(momentum=0.9), 3)
    assert base == Config()
    with pytest.raises(ConfigError, match=r"^config\.optim\.momentum: no such field of adam; "):
        with_values(base, {"optim.momentum": 0.9})


def test_a_field_of_another_spec_is_said_to_be_one():
    assert "resnet has it, see --config.model.name" in missing_field(Config(), "model.stem")
    assert "sgd" in missing_field(Config(), "optim.nesterov")


def test_differences_show_the_type_like_a_field():
    a, b = Config(), Config()
    b.model = ResNet()
    actual = differences(a, b)
    assert actual["config.model.type"] == ("cifar_flax.models.convnet:ConvNet", "cifar_flax.models.resnet:ResNet")
    assert actual["config.model.stem"] == (None, 64)
    assert "config.optim.type" not in actual


def test_every_registered_network_is_usable():
    for name in MODELS:
        assert validated(with_values(Config(), {"model.name": name})).model.name == name


def test_base_classes_say_what_a_subclass_defines():
    with pytest.raises(NotImplementedError):
        ModelSpec().build(10, None)
    with pytest.raises(NotImplementedError):
        OptimizerSpec().transform(lambda step: 0.1)
