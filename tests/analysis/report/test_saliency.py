"""Saliency and features of softmax regression, where they are the weights and the pixels."""

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA

from cifar_flax import Run
from cifar_flax.analysis.report.embedding import features, principal_components
from cifar_flax.analysis.report.saliency import gradient_saliency, occlusion
from cifar_flax.config import AugmentConfig
from cifar_flax.config.serialize import validated
from cifar_flax.runtime.app import load_config
from cifar_flax.training.loop import train
from tests.conftest import TINY_CONFIG, tiny_split


@pytest.fixture(scope="module")
def run(tiny_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        config = load_config(str(TINY_CONFIG))
        config.model.blocks, config.model.dense, config.augment, config.train.epochs = (), (), AugmentConfig(), 4
        train(validated(config), folder)
    return Run.open(folder)


def test_the_gradient_of_a_linear_network_is_its_weights(run):
    kernel = np.asarray(run.params()["logits"]["kernel"]).reshape(8, 8, 3, 10)
    expected = np.abs(kernel[..., 4] / np.array(run.preprocessing.std)).max(-1)
    np.testing.assert_allclose(gradient_saliency(run, tiny_split(1, 0).images[0], 4), expected, rtol=1e-5)


def test_occlusion_is_the_loss_of_probability_under_a_grey_square(run):
    image = tiny_split(4, 3).images[3]
    found = occlusion(run, image, 3, size=4, stride=2)
    assert found.shape == (3, 3)
    covered = image.copy()
    covered[2:6, 4:8] = 128

    def probability(image):
        x = (image / 255 - np.array(run.preprocessing.mean)) / np.array(run.preprocessing.std)
        logits = x.reshape(-1) @ np.asarray(run.params()["logits"]["kernel"]) + np.asarray(run.params()["logits"]["bias"])
        return jax.nn.softmax(logits)[3]

    assert found[1, 2] == pytest.approx(float(probability(image) - probability(covered)), abs=1e-5)


def test_features_are_what_the_last_layer_sees(run):
    split = tiny_split(45, 1)  # not a multiple of the batch size
    expected = (split.images / 255 - np.array(run.preprocessing.mean)) / np.array(run.preprocessing.std)
    np.testing.assert_allclose(features(run, split), expected.reshape(45, -1), rtol=1e-4, atol=1e-5)


def test_principal_components_are_scikit_learns():
    x = np.random.default_rng(0).normal(size=(50, 7)) * np.arange(1, 8)
    expected = PCA(2).fit_transform(x)
    found = principal_components(x)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-6, atol=1e-9)
