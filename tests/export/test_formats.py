import json
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.export
import numpy as np
import onnxruntime
import pytest

from benchmarks.tiny import shrink
from cifar_flax import ModelSpec, pretrained
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import validated
from cifar_flax.data.loading import load_dataset
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.evaluation.calibration import Calibration
from cifar_flax.export.formats import export, inference, onnx, stablehlo
from cifar_flax.models import create_model, initialize
from cifar_flax.network import Network
from cifar_flax.pretrained.weights import read_weights
from cifar_flax.run import Run
from cifar_flax.runtime.compilation import jit
from cifar_flax.runtime.flag_values import Format
from cifar_flax.training.loop import train
from tests.conftest import ROOT, TINY_CONFIG, TINY_TEST_IMAGES, tiny_split

IMAGES = tiny_split(256, 7).images


@pytest.fixture(scope="module")
def network(tiny_run):
    """A trained network with BatchNorm, dropout and an average of the weights."""
    return Run.open(tiny_run).network()


def test_stablehlo_gives_logits_over_the_temperature_for_any_number_of_images(network, tmp_path, tiny_data):
    network.calibration = Calibration(0.5)
    export(network, Format.STABLEHLO, tmp_path / "net.stablehlo")
    reloaded = jax.export.deserialize(bytearray((tmp_path / "net.stablehlo").read_bytes()))
    assert {"cpu", "cuda", "tpu"} <= set(reloaded.platforms)
    test = load_dataset(network.config.data, "test")
    np.testing.assert_allclose(reloaded.call(test.images), 2 * network.logits(test.images), rtol=1e-5, atol=1e-5)
    expected = jit(inference(network))(IMAGES)
    np.testing.assert_allclose(reloaded.call(IMAGES), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reloaded.call(IMAGES[:1]), expected[:1], rtol=1e-5, atol=1e-5)


def test_onnx_gives_the_logits_of_the_network_for_any_number_of_images(network, tmp_path, tiny_data):
    network.figures = {"top1": 0.25}
    export(network, Format.ONNX, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    test = load_dataset(network.config.data, "test")
    expected = jit(inference(network))
    for images in (test.images, IMAGES, IMAGES[:1]):
        (logits,) = session.run(["logits"], {"images": images})
        np.testing.assert_allclose(logits, expected(images), rtol=1e-4, atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(network.class_names)
    assert json.loads(metadata["figures"]) == {"top1": 0.25}


@pytest.mark.parametrize("stem", ["fast", "resnet18", "wide", "vgg_bn", "small_kernels"])
def test_every_kind_of_network_becomes_portable(stem):
    """Speed-run and residual networks, ELU, sigmoids, odd maps; of few filters."""
    config = shrink(load_config(str(ROOT / "configs" / f"{stem}.py")))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    known = Preprocessing((32, 32, 3), tuple(map(str, range(100))), (), (), (0.5,) * 3, (0.25,) * 3)
    model = create_model(config.model, 100)
    variables = jit(lambda key: initialize(model, key, known.normalize(images)))(jax.random.key(0))
    network = Network(config, known, variables, stem)
    expected = np.asarray(jit(inference(network))(images))
    scale = np.abs(expected).max()
    (logits,) = onnxruntime.InferenceSession(onnx(network)).run(None, {"images": images})
    np.testing.assert_allclose(logits / scale, expected / scale, atol=1e-5)
    reloaded = jax.export.deserialize(bytearray(stablehlo(network)))
    np.testing.assert_allclose(reloaded.call(images) / scale, expected / scale, atol=1e-5)


class Counting(nn.Module):
    """A network whose code takes the number of images for a plain number."""

    count: str

    @nn.compact
    def __call__(self, x, train):
        number = {"len": len, "int": lambda x: int(x.shape[0]), "loop": lambda x: sum(1 for _ in x)}[self.count](x)
        return nn.Dense(10)(x.reshape(number, -1))


@dataclass(slots=True)
class CountingSpec(ModelSpec):
    count: str = "len"

    def build(self, num_classes, dtype):
        return Counting(self.count)


@pytest.mark.parametrize("write", [stablehlo, onnx])
@pytest.mark.parametrize("count", ["len", "int", "loop"])
def test_a_network_for_one_number_of_images_is_refused_in_a_line(make_network, write, count):
    network = make_network()
    network.config.model = CountingSpec(count)
    network.variables = network.config.model.build(10, None).init(jax.random.key(0), np.zeros((1, 8, 8, 3)), train=False)
    assert network.logits(IMAGES).shape == (len(IMAGES), 10)
    with pytest.raises(UserError, match=r"^tiny: .*write x\.shape\[0\] in the place of len\(x\).*--format=safetensors \(.+\)$"):
        write(network)


def test_safetensors_give_the_logits_but_for_half_precision(network, tmp_path):
    network.figures = {"top1": 0.25, "n": TINY_TEST_IMAGES}
    export(network, Format.SAFETENSORS, tmp_path / "net.safetensors")
    reloaded = read_weights(tmp_path / "net.safetensors")
    assert reloaded.figures == {"top1": 0.25, "n": TINY_TEST_IMAGES}
    actual, expected = (jit(inference(network))(IMAGES) for network in (reloaded, network))
    np.testing.assert_allclose(actual, expected, rtol=2e-2, atol=2e-2)


def test_a_pretrained_network_is_exported_too(network, tmp_path):
    export(network, Format.SAFETENSORS, tmp_path / "net.safetensors")
    reloaded = read_weights(tmp_path / "net.safetensors")
    again = jax.export.deserialize(bytearray(stablehlo(reloaded)))
    np.testing.assert_allclose(again.call(IMAGES), jit(inference(reloaded))(IMAGES), rtol=1e-5, atol=1e-5)


def test_training_begins_with_a_pretrained_network_and_a_new_head(network, tmp_path, tiny_data, monkeypatch, capsys):
    export(network, Format.SAFETENSORS, tmp_path / "net.safetensors")
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    config = load_config(str(TINY_CONFIG))
    config.train.init_from, config.train.epochs = "pretrained:net", 1
    config.optim.freeze = ("block0_*", "dense0/*")  # head only
    state = train(validated(config), tmp_path / "tuned")
    assert "took over 7 of 7 parameter tensors" in capsys.readouterr().out
    there = read_weights(tmp_path / "net.safetensors").variables["params"]
    jax.tree.map(np.testing.assert_array_equal, state.params["block0_conv0"], there["block0_conv0"])
    assert not np.array_equal(state.params["logits"]["kernel"], there["logits"]["kernel"])
