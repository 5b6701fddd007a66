"""A weights file of a stranger has nobody's code imported."""

import sys

import pytest

from cifar_flax.config.serialize import to_dict
from cifar_flax.errors import UserError
from cifar_flax.pretrained import weights
from cifar_flax.pretrained.weights import read_weights, write_weights

CODE = "from pathlib import Path\nPath(__file__).with_name('executed').touch()\ndef part(*args):\n    return args\n"
PLACES = {
    "config.loss": lambda config: config.update(loss="evil:part"),
    "config.model.type": lambda config: config["model"].update(type="evil:part"),
    "config.optim.type": lambda config: config["optim"].update(type="evil.deep:part"),
    "config.optim.schedule": lambda config: config["optim"].update(schedule="evil:part"),
    "config.augment.custom[1]": lambda config: config["augment"].update(custom=["flip", "evil:part"]),
    "config.data.name": lambda config: config["data"].update(name="evil:part"),
}


@pytest.fixture
def written(make_network, tmp_path, monkeypatch):
    """Writes a file with a changed config, beside a module evil, in the working directory."""
    (tmp_path / "evil.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(change):
        network, path = make_network(), tmp_path / "net.safetensors"
        values = to_dict(network.config)
        change(values)
        with monkeypatch.context() as patch:
            patch.setattr(weights, "to_dict", lambda config: values)
            write_weights(path, network)
        return path

    yield write
    sys.modules.pop("evil", None)


@pytest.mark.parametrize("field", PLACES)
def test_code_of_others_is_refused_in_a_line_and_not_imported(written, tmp_path, field):
    path = written(PLACES[field])
    with pytest.raises(UserError) as error:
        read_weights(path)
    assert f"{path}: its {field} is evil" in str(error.value)
    assert "set CIFAR_FLAX_TRUST=evil" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("path", ["os:abort", "cifar_flax.runtime.startup:start", "cifar_flax.config.imports:importlib.reload"])
def test_functions_of_python_and_of_the_package_are_no_data_sets(written, path):
    with pytest.raises(UserError, match="code that is not a registered part of cifar_flax"):
        read_weights(written(lambda config: config["data"].update(name=path)))


def test_a_module_that_the_user_trusts_is_imported(written, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_TRUST", "my_mixer, evil")
    assert read_weights(written(PLACES["config.loss"])).config.loss == "evil:part"
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["folder:pets", "hf:cifar100", "cifar10:3.0.2", "shapes100"])
def test_data_sets_that_only_look_like_code_are_allowed(written, name):
    def change(config):
        config["data"]["name"], config["train"]["init_from"], config["train"]["teacher"] = (
            name,
            "pretrained:fast",
            "pretrained:fast",
        )

    assert read_weights(written(change)).config.data.name == name
