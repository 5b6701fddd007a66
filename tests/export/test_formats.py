import json

import jax
import jax.export
import numpy as np
import onnxruntime
import pytest

from cifar_flax import pretrained
from cifar_flax.config.serialize import validated
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.registry import load_dataset
from cifar_flax.errors import UserError
from cifar_flax.export.formats import Format, export, inference, onnx, stablehlo
from cifar_flax.export.onnx_writer import to_onnx
from cifar_flax.models import create_model, initialize
from cifar_flax.pretrained.weights import Pretrained, read_weights
from cifar_flax.run import Run
from cifar_flax.runtime.app import load_config
from cifar_flax.training.loop import train
from tests.conftest import ROOT, TINY_CONFIG, TINY_TEST_IMAGES, tiny_split

IMAGES = tiny_split(256, 7).images


@pytest.fixture(scope="module")
def run(tiny_cache, tmp_path_factory):
    """A trained run with BatchNorm, dropout and an average of the weights."""
    folder = tmp_path_factory.mktemp("export") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        train(validated(load_config(str(TINY_CONFIG))), folder)
    return Run.open(folder)


def test_stablehlo_gives_the_logits_of_the_run_for_any_number_of_images(run, tmp_path, tiny_data):
    export(run, Format.STABLEHLO, tmp_path / "net.stablehlo", {})
    reloaded = jax.export.deserialize(bytearray((tmp_path / "net.stablehlo").read_bytes()))
    assert {"cpu", "cuda", "tpu"} <= set(reloaded.platforms)
    test = load_dataset(run.config.data, "test")
    np.testing.assert_allclose(reloaded.call(test.images), run.predict(test), rtol=1e-5, atol=1e-5)
    expected = inference(run)(IMAGES)
    np.testing.assert_allclose(reloaded.call(IMAGES), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reloaded.call(IMAGES[:1]), expected[:1], rtol=1e-5, atol=1e-5)


def test_onnx_gives_the_logits_of_the_run_for_any_number_of_images(run, tmp_path, tiny_data):
    export(run, Format.ONNX, tmp_path / "net.onnx", {"top1": 0.25})
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    test = load_dataset(run.config.data, "test")
    for images in (test.images, IMAGES, IMAGES[:1]):
        (logits,) = session.run(["logits"], {"images": images})
        np.testing.assert_allclose(logits, inference(run)(images), rtol=1e-4, atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(run.class_names)
    assert json.loads(metadata["figures"]) == {"top1": 0.25}


@pytest.mark.parametrize("stem", ["fast", "resnet18", "wide", "vgg_bn", "small_kernels"])
def test_every_kind_of_network_becomes_portable(stem):
    """Speed-run and residual networks, ELU, sigmoids, odd maps."""
    config = load_config(str(ROOT / "configs" / f"{stem}.py"))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    known = Preprocessing((32, 32, 3), tuple(map(str, range(100))), (), (), (0.5,) * 3, (0.25,) * 3)
    model = create_model(config.model, 100)
    network = Pretrained(config, known, {}, initialize(model, jax.random.key(0), known.normalize(images)))
    expected = np.asarray(inference(network)(images))
    scale = np.abs(expected).max()
    (logits,) = onnxruntime.InferenceSession(onnx(network, {})).run(None, {"images": images})
    np.testing.assert_allclose(logits / scale, expected / scale, atol=1e-5)
    reloaded = jax.export.deserialize(bytearray(stablehlo(network)))
    np.testing.assert_allclose(reloaded.call(images) / scale, expected / scale, atol=1e-5)


def test_onnx_names_what_it_has_no_translation_for():
    with pytest.raises(UserError, match="no translation of JAX' cumsum"):
        to_onnx(lambda images: jax.numpy.cumsum(images.astype("float32").sum((2, 3)), axis=1), (8, 8, 3), {})


def test_safetensors_give_the_logits_of_the_run_but_for_half_precision(run, tmp_path):
    export(run, Format.SAFETENSORS, tmp_path / "net.safetensors", {"top1": 0.25, "n": TINY_TEST_IMAGES})
    reloaded = read_weights(tmp_path / "net.safetensors")
    assert reloaded.figures == {"top1": 0.25, "n": TINY_TEST_IMAGES}
    np.testing.assert_allclose(inference(reloaded)(IMAGES), inference(run)(IMAGES), rtol=2e-2, atol=2e-2)


def test_a_pretrained_network_is_exported_too(run, tmp_path):
    export(run, Format.SAFETENSORS, tmp_path / "net.safetensors", {})
    reloaded = read_weights(tmp_path / "net.safetensors")
    again = jax.export.deserialize(bytearray(stablehlo(reloaded)))
    np.testing.assert_allclose(again.call(IMAGES), inference(reloaded)(IMAGES), rtol=1e-5, atol=1e-5)


def test_training_begins_with_a_pretrained_network_and_a_new_head(run, tmp_path, tiny_data, monkeypatch, capsys):
    export(run, Format.SAFETENSORS, tmp_path / "net.safetensors", {})
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    config = load_config(str(TINY_CONFIG))
    config.train.init_from, config.train.epochs = "pretrained:net", 1
    config.optim.freeze = ("block0_*", "dense0/*")  # head only
    state = train(validated(config), tmp_path / "tuned")
    assert "took over 7 of 7 parameter tensors" in capsys.readouterr().out
    there = read_weights(tmp_path / "net.safetensors").variables()["params"]
    jax.tree.map(np.testing.assert_array_equal, state.params["block0_conv0"], there["block0_conv0"])
    assert not np.array_equal(state.params["logits"]["kernel"], there["logits"]["kernel"])
