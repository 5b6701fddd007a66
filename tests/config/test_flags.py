import re
import sys

import pytest

from cifar_flax.config import Config
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import from_dict, to_dict, validated, write_config
from cifar_flax.errors import UserError
from cifar_flax.models import ResNet
from cifar_flax.optim import SGD
from tests.conftest import ROOT
from tests.helpers.overrides import FULL_CONFIG, experiment

MIXER = (ROOT / "tests" / "extension" / "my_mixer.py").read_text()


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        experiment(*arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["--config.train.steps_per_dispatch=8"], 8),
        (["--config.train.steps_per_dispatch", "8"], 8),
        (["--config.train.steps-per-dispatch=8"], 8),
        (["--config.train.steps_per_dispatch=auto"], "auto"),
        (["--config.train.vmap_seeds=true"], True),
        (["--config.train.vmap_seeds=false"], False),
        (["--config.train.vmap_seeds=auto"], "auto"),
        (["--config.augment.flip"], True),
        (["--noconfig.augment.flip"], False),
        (["--config.optim.clip_norm=2"], 2.0),
        (["--config.optim.clip_norm=2", "--config.optim.clip_norm=none"], None),
        (["--config.data.image_size=none"], None),
        (["--config.data.folds=3", "--config.data.folds=None"], None),
        (["--config.data.folds=3", "--config.data.folds=null"], None),
        (["--config.data.name=None"], "None"),
        (["--config.augment.policy=none"], "none"),
        (["--config.data.name=none"], "none"),
        (["--config.optim.boundaries=()"], ()),
        (["--config.model.blocks[1].features=(3, 4)"], (3, 4)),
        (["--config.model.blocks[-1].dropout=.5"], 0.5),
    ],
)
def test_values_are_read_as_their_field_takes_them(overrides, expected):
    value = experiment(f"--config={FULL_CONFIG}", *overrides).config
    path = overrides[0].partition("=")[0].partition("config.")[2]
    for name, index in re.findall(r"([a-z_-]+)(?:\[(-?\d+)\])?", path):
        value = getattr(value, name.replace("-", "_"))
        value = value[int(index)] if index else value
    assert value == expected
    assert isinstance(value, type(expected))


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("learning_rate=1", "config.learning_rate: no such field. Did you mean config.optim.learning_rate?"),
        ("optim.learning_rte=1", "config.optim.learning_rte: no such field. Did you mean config.optim.learning_rate?"),
        (
            "patience=1",
            "config.patience: no such field. Did you mean config.plateau.patience or config.early_stopping.patience?",
        ),
        ("model=resnet", "config.model: is a section; its fields are set one by one, such as --config.model.name"),
        ("train=3", "config.train: is a section; its fields are set one by one, such as --config.train.epochs"),
        ("train.epochs=many", "config.train.epochs: should be a valid number, not 'many'"),
        ("train.epochs=none", "config.train.epochs: should be a valid number, not 'none'"),
        ("optim.name=adamz", "config.optim.name: there is no optimizer 'adamz'; did you mean adam?"),
        ("optim.learning_rate=nan", "config.optim.learning_rate: should be a finite number, not nan"),
        ("optim.warmup_epochs=-1", "config.optim.warmup_epochs: should be greater than or equal to 0, not -1"),
        ("model.blocks[7].dropout=.1", "config.model.blocks[7]: no such entry; config.model.blocks has 2 entries"),
        ("train.epochs=0", "config.train.epochs: should be greater than 0, not 0"),
        ("train.steps_per_dispatch=x", "config.train.steps_per_dispatch: should be a valid integer or 'auto', not 'x'"),
        ("train.vmap_seeds=x", "config.train.vmap_seeds: should be a valid boolean or 'auto', not 'x'"),
        ("augment.flip=maybe", "config.augment.flip: should be a valid boolean, not 'maybe'"),
        ("augment.policy=rand", "config.augment.policy: should be 'none', 'rand_augment' or 'trivial_augment', not 'rand'"),
        ("model.name=resnett", "config.model.name: there is no model 'resnett'; did you mean resnet?"),
        ("optim.schedule=cosin", "config.optim.schedule: there is no schedule 'cosin'; did you mean cosine?"),
        ("loss=cross_entropi", "config.loss: there is no loss 'cross_entropi'; did you mean cross_entropy?"),
        ("augment.custom=json:dumped", "config.augment.custom[0]: the module json has no dumped"),
        ("loss=json:decoder", "config.loss: json:decoder is no function"),
    ],
)
def test_a_mistake_costs_one_line_before_anything_trains(capsys, override, line):
    assert refusal(capsys, f"--config={FULL_CONFIG}", f"--config.{override}") == line


def test_a_wrong_value_is_found_before_the_file_and_jax_are_imported(capsys):
    line = refusal(capsys, "--config=missing.py", "--config.train.epochs=many")
    assert line == "config.train.epochs: should be a valid number, not 'many'"


def test_entries_of_the_config_in_the_file_can_be_set():
    actual = experiment("--config=fast", "--config.train.resolutions[0].size=16").config.train.resolutions
    assert [resolution.size for resolution in actual] == [16, 24]


def test_without_a_config_the_line_says_how_to_name_one(capsys):
    assert refusal(capsys) == "--config: missing; expected --config=configs/NAME.py, or a name such as --config=quickstart"


@pytest.mark.parametrize("words", [["--config=fast"], ["--config", "fast"], ["-config", "fast"]])
def test_the_config_may_be_named_after_its_fields(words):
    actual = experiment("--config.train.epochs=1", "--config.seed", "3", *words)
    assert (actual.config.train.epochs, actual.config.seed) == (1, 3)
    assert actual == experiment(*words, "--config.train.epochs=1", "--config.seed", "3")


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_swaps_the_spec_whatever_the_order_of_the_flags(order):
    overrides = ["--config.optim.momentum=.9", "--config.optim.name=sgd", "--config.model.name=resnet", "--config.model.stem=8"]
    actual = experiment(f"--config={FULL_CONFIG}", "--config.optim.learning_rate=.5", *overrides[::order])
    assert actual.config.optim == SGD(learning_rate=0.5, momentum=0.9, groups=actual.config.optim.groups)
    assert actual.config.model == ResNet(stem=8)


def test_the_name_of_a_run_tells_its_overrides_apart():
    names = [
        experiment(f"--config={FULL_CONFIG}", *overrides).name
        for overrides in ([], ["--config.optim.name=sgd"], ["--config.optim.name=lion"], ["--config.seed=1"])
    ]
    assert len(set(names)) == len(names)
    assert names[0] == "full"
    assert experiment(f"--config={FULL_CONFIG}", "--config.log.every_steps=3").name == "full"


def test_a_config_file_is_a_module_of_its_name(tmp_path, restored_modules):
    (tmp_path / "my_mixer.py").write_text(f"from my_settings import EPOCHS\n{MIXER.replace('50, 150, 10', '50, 150, EPOCHS')}")
    (tmp_path / "my_settings.py").write_text("EPOCHS = 7")
    config = validated(load_config(str(tmp_path / "my_mixer.py")))
    assert to_dict(config)["model"]["type"] == "my_mixer:Mixer"
    assert from_dict(to_dict(config)) == config
    assert config.train.epochs == 7


@pytest.mark.parametrize(
    ("name", "reason"), [("json.py", "another module called json"), ("my-mixer.py", "is no name of a module")]
)
def test_specs_in_a_file_that_cannot_be_imported_are_refused(tmp_path, restored_modules, name, reason):
    (tmp_path / name).write_text(MIXER)
    with pytest.raises(UserError) as error:
        load_config(str(tmp_path / name))
    assert "Mixer cannot be imported from this file" in str(error.value)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        'c.loss = "export:mine"',
        'c.optim.schedule = "export:mine"',
        'c.augment.custom = ("flip", "export:mine")',
        'c.log.writers = ["export:mine"]',
        'c.data.name = "export:mine"',
    ],
)
def test_functions_in_a_file_that_cannot_be_imported_are_refused(tmp_path, restored_modules, monkeypatch, line):
    monkeypatch.setitem(sys.modules, "export", sys.modules["json"])
    body = f"def get_config():\n    c = Config()\n    {line}\n    return c\n"
    (tmp_path / "export.py").write_text(f"from cifar_flax import Config\ndef mine(): ...\n{body}")
    with pytest.raises(
        UserError, match=r"export:mine cannot be imported from this file: .* another module called export, .*; rename"
    ):
        load_config(str(tmp_path / "export.py"))


NETWORK = """
from dataclasses import dataclass, field
from cifar_flax import Config, ModelSpec

@dataclass(frozen=True)
class Part:
    size: int = 3

@dataclass(slots=True, kw_only=True)
class Net(ModelSpec):
    strides: list[int] = field(default_factory=list)
    sizes: tuple[int, ...] | None = None
    table: dict[str, float] = field(default_factory=dict)
    part: Part = Part()
    width: int = 1

    def build(self, num_classes, dtype): ...

@dataclass(slots=True, kw_only=True)
class NoDefault(ModelSpec):
    width: int

    def build(self, num_classes, dtype): ...

@dataclass(slots=True, kw_only=True)
class Raising(ModelSpec):
    def __post_init__(self):
        raise RuntimeError("not today")

    def build(self, num_classes, dtype): ...

def get_config():
    return Config(model=Net())
"""


@pytest.fixture
def network(tmp_path, restored_modules):
    (tmp_path / "own_net.py").write_text(NETWORK)
    return f"--config={tmp_path / 'own_net.py'}"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("strides=[3,4]", [3, 4]),
        ("strides=(3, 4)", [3, 4]),
        ("sizes=(1,2)", (1, 2)),
        ("sizes=none", None),
        ("table={'a':1}", {"a": 1.0}),
    ],
)
def test_lists_dicts_and_tuples_of_a_users_network_are_read_in_pythons_form(network, override, expected):
    value = getattr(experiment(network, f"--config.model.{override}").config.model, override.partition("=")[0])
    assert value == expected


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("strides=[3,'x']", "config.model.strides[1]: should be a valid integer, not 'x'"),
        ("strides=[3", "config.model.strides: should be a valid array, not '[3'"),
        ("table={'a':'b'}", "config.model.table.a: should be a valid number, not 'b'"),
        ("width=(1,2)", "config.model.width: should be a valid integer, not [1, 2]"),
        ("part.size=4", "config.model.part.size: Part is a frozen dataclass, which no flag changes; leave out frozen=True"),
        (
            "name=own_net:NoDefault",
            "config.model.name: own_net:NoDefault has no default for width; give it one, or set it in a config file",
        ),
        ("name=own_net:Raising", "config.model.name: own_net:Raising raised RuntimeError: not today (own_net.py, line 28)"),
    ],
)
def test_a_value_that_a_users_network_cannot_take_costs_a_line(network, capsys, override, line):
    assert refusal(capsys, network, f"--config.model.{override}") == line


def test_specs_in_a_file_in_a_run_directory_are_refused_with_the_reason(tmp_path, restored_modules):
    write_config(Config(), tmp_path / "config.json")
    (tmp_path / "mixer_of_run.py").write_text(MIXER)
    reason = f": it lies in the run directory {tmp_path}, from which nothing is imported; move the file"
    with pytest.raises(UserError, match=f"{re.escape(reason)}$"):
        load_config(str(tmp_path / "mixer_of_run.py"))


def test_a_file_may_have_the_name_of_a_module_if_nothing_is_imported_from_it(tmp_path, restored_modules):
    (tmp_path / "json.py").write_text(FULL_CONFIG.read_text())
    assert load_config(str(tmp_path / "json.py")).model.name == "convnet"
    assert sys.modules["json"].dumps({}) == "{}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def get_config(: pass", "SyntaxError"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("def get_config(): raise ValueError('seven')", "ValueError: seven"),
        ("from cifar_flax import Config\ndef get_config():\n    Config().sead = 1", "'Config' object has no attribute 'sead'"),
        ("def get_config(): return 3", "get_config() must return a cifar_flax.Config, not int"),
        ("x = 3", "has no attribute 'get_config'"),
    ],
)
def test_a_faulty_config_file_costs_a_line(tmp_path, restored_modules, source, message):
    (tmp_path / "faulty.py").write_text(source)
    with pytest.raises(UserError) as error:
        load_config(str(tmp_path / "faulty.py"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_has_to_be_a_python_file(tmp_path):
    (tmp_path / "wide.txt").write_text("def get_config(): ...")
    with pytest.raises(UserError, match=r"wide\.txt: not a Python file; its name has to end in \.py$"):
        load_config(str(tmp_path / "wide.txt"))


def test_a_missing_file_is_said_to_be_missing_with_those_there_are():
    with pytest.raises(UserError, match=r"wyde\.py: no such file\. Configs there: .*wide\.py"):
        load_config(str(ROOT / "configs" / "wyde.py"))
