import json
import re

import jax
import numpy as np
import pytest
import yaml

from cifar_flax.errors import UserError
from cifar_flax.export.formats import export
from cifar_flax.pretrained.weights import as_stored
from cifar_flax.run import load_network
from cifar_flax.runtime.flag_values import Format, KernelDtype

FIGURES = {"split": "test", "n": 103, "top1": 0.25, "top5": 0.75, "ece": 0.1, "loss": 2.0}


@pytest.fixture
def network(make_network):
    network = make_network()
    network.name, network.figures = "lines", FIGURES
    network.config.data.name = "folder:/home/somebody/private/pets"
    return network


def card(folder):
    """The metadata and the text of the model card."""
    _, metadata, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(metadata), text


@pytest.mark.parametrize("dtype", KernelDtype)
def test_a_folder_gives_back_the_network(network, tmp_path, dtype):
    export(network, Format.HUGGINGFACE, tmp_path / "net", dtype)
    loaded = load_network(tmp_path / "net")
    assert (loaded.name, loaded.config, loaded.preprocessing) == ("net", network.config, network.preprocessing)
    assert loaded.figures == FIGURES
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, dict(as_stored(network, dtype).variables))


def test_the_card_says_what_was_measured_on_what_and_no_more(network, tmp_path):
    export(network, Format.HUGGINGFACE, tmp_path / "net", license_id="mit")
    metadata, text = card(tmp_path / "net")
    assert (metadata["license"], metadata["library_name"]) == ("mit", "cifar_flax")
    (result,) = metadata["model-index"][0]["results"]
    assert (result["dataset"]["name"], result["dataset"]["split"], result["dataset"]["args"]) == (
        "pets",
        "test",
        {"images": 103},
    )
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == {
        "top-1 accuracy": 0.25,
        "top-5 accuracy": 0.75,
        "expected calibration error": 0.1,
    }
    assert "| test split of pets, 103 images | |" in text
    assert "| top-1 accuracy | 25.00% |" in text
    assert "float16" in text
    assert "somebody" not in (tmp_path / "net" / "README.md").read_text() + (tmp_path / "net" / "config.json").read_text()
    assert "datasets" not in metadata  # it is on nobody's Hub
    network.figures, network.config.data.name = {}, "cifar100"
    export(network, Format.HUGGINGFACE, tmp_path / "net")
    metadata, text = card(tmp_path / "net")
    assert metadata["datasets"] == ["uoft-cs/cifar100"]
    assert {"license", "model-index", "metrics"}.isdisjoint(metadata)
    assert "have not been measured.\n\nPercentages are the softmax of the logits: no temperature has been fitted." in text


def test_config_json_has_classes_and_preprocessing_and_is_no_run(network, tmp_path):
    export(network, Format.HUGGINGFACE, tmp_path / "net")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert list(config["id2label"].values()) == list(network.class_names)
    assert config["temperature"] == 1.0
    assert (config["image_mean"], config["image_std"]) == ([0.5, 0.4, 0.3], [0.1, 0.2, 0.3])
    assert "model" not in config  # or nothing beside it could be imported


@pytest.mark.parametrize("dtype", KernelDtype)
def test_code_on_the_card_runs(network, tmp_path, monkeypatch, dtype):
    export(network, Format.HUGGINGFACE, tmp_path / "net", dtype)
    monkeypatch.chdir(tmp_path / "net")
    _, plain = re.findall(r"```python\n(.*?)```", card(tmp_path / "net")[1], re.DOTALL)
    names: dict = {}
    exec(plain, names)
    assert names["class_names"] == list(network.class_names)
    assert names["tensors"]["params/logits/kernel"].dtype == dtype


def test_a_folder_of_other_things_is_left_alone(network, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match="no earlier export; choose a new folder"):
        export(network, Format.HUGGINGFACE, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
