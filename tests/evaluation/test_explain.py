"""Explanations and features of softmax regression, where they are the weights and the pixels."""

import jax
import numpy as np
import pytest
from PIL import Image

from cifar_flax import Run
from cifar_flax.config import AugmentConfig
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import validated
from cifar_flax.errors import UserError
from cifar_flax.evaluation.explain import default_squares, occlusion, squares_to_pixels
from cifar_flax.training.loop import train
from tests.conftest import TINY_CONFIG, tiny_split


@pytest.fixture(scope="module")
def network(tiny_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        config = load_config(str(TINY_CONFIG))
        config.model.blocks, config.model.dense, config.augment, config.train.epochs = (), (), AugmentConfig(), 4
        train(validated(config), folder)
    return Run.open(folder).network()


def test_the_gradient_of_a_linear_network_is_its_weights(network):
    kernel = np.asarray(network.variables["params"]["logits"]["kernel"]).reshape(8, 8, 3, 10)
    expected = np.abs(kernel[..., 4] / np.array(network.preprocessing.std)).max(-1)
    np.testing.assert_allclose(network.explain(tiny_split(1, 0).images[0], 4), expected, rtol=1e-5)


def test_with_its_mirror_image_the_gradient_is_the_mean_of_both(network):
    kernel = np.asarray(network.variables["params"]["logits"]["kernel"]).reshape(8, 8, 3, 10)[..., 4]
    expected = np.abs((kernel + kernel[:, ::-1]) / 2 / np.array(network.preprocessing.std)).max(-1)
    np.testing.assert_allclose(network.explain(tiny_split(1, 0).images[0], 4, flip=True), expected, rtol=1e-5)


def test_with_its_mirror_image_occlusion_is_the_loss_of_the_probability_of_both(network):
    image = tiny_split(4, 3).images[3]
    covered = image.copy()
    covered[2:6, 4:8] = 128
    whole, less = network.probabilities(np.stack([image, covered]), flip=True)
    explained = network.explain(image, None, "occlusion", size=4, stride=2, flip=True)
    assert explained[1, 2] == pytest.approx((whole - less)[whole.argmax()], abs=1e-6)
    assert abs(explained - network.explain(image, int(whole.argmax()), "occlusion", size=4, stride=2)).max() > 1e-4


def test_occlusion_is_the_loss_of_probability_under_a_grey_square(network):
    image = tiny_split(4, 3).images[3]
    difference = network.explain(image, 3, "occlusion", size=4, stride=2)
    assert difference.shape == (3, 3)
    covered = image.copy()
    covered[2:6, 4:8] = 128

    def probability(image):
        x = (image / 255 - np.array(network.preprocessing.mean)) / np.array(network.preprocessing.std)
        head = network.variables["params"]["logits"]
        logits = x.reshape(-1) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
        return jax.nn.softmax(logits / network.temperature)[3]

    assert difference[1, 2] == pytest.approx(float(probability(image) - probability(covered)), abs=1e-5)


@pytest.mark.parametrize("shape", [(20, 20), (36, 60), (44, 33), (7, 500), (3, 3)])
def test_squares_cover_every_pixel(shape):
    size, stride = default_squares(shape)
    seen = []

    def probabilities(images):
        seen.extend(images)
        return np.zeros((len(images), 1), np.float32)

    values = occlusion(probabilities, np.zeros((1, *shape, 1), np.uint8), np.array([0]), size, stride)[0]
    assert np.max(seen, axis=0).min() == 128
    np.testing.assert_array_equal(squares_to_pixels(np.ones_like(values), *shape, size, stride), np.ones(shape))


def test_squares_over_32_pixels_are_evenly_spaced():
    size, stride = default_squares((32, 32, 3))
    image = np.zeros((1, 32, 32, 3), np.uint8)
    seen = []
    occlusion(lambda images: seen.extend(images) or np.zeros((len(images), 1)), image, np.array([0]), size, stride)
    starts = sorted({tuple(map(int, np.argwhere(covered)[0, :2])) for covered in seen[1:]})
    assert starts == [(row, column) for row in range(0, 28, 4) for column in range(0, 28, 4)]


def test_a_pixel_has_the_mean_of_the_squares_that_cover_it():
    pixels = squares_to_pixels(np.array([[1.0, 3.0]], np.float32), height=3, width=5, size=2, stride=1)
    np.testing.assert_array_equal(pixels, [[1, 2, 3, 0, 0], [1, 2, 3, 0, 0], [0, 0, 0, 0, 0]])


def test_features_are_what_the_last_layer_sees(network):
    split = tiny_split(45, 1)  # not a multiple of the batch size
    expected = (split.images / 255 - np.array(network.preprocessing.mean)) / np.array(network.preprocessing.std)
    np.testing.assert_allclose(network.features(split.images), expected.reshape(45, -1), rtol=1e-4, atol=1e-5)


def test_by_default_the_likeliest_class_is_explained(network):
    image = tiny_split(1, 0).images[0]
    likeliest = int(network.logits(image[None])[0].argmax())
    np.testing.assert_array_equal(network.explain(image), network.explain(image, likeliest))


@pytest.mark.parametrize("label", [-1, 10, "line 10", True, 4.0, ""])
def test_a_class_that_is_not_there_is_refused(network, label):
    with pytest.raises(UserError, match=f"no class {label!r}; expected 0 to 9, or a name such as 'line 0'"):
        network.explain(tiny_split(1, 0).images[0], label)


def test_a_class_may_be_named_and_an_image_come_from_anywhere(network, tmp_path):
    image = tiny_split(1, 0).images[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = network.explain(image, 4)
    for picture in (image, tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), Image.fromarray(image)):
        np.testing.assert_array_equal(network.explain(picture, "line 4"), expected)
    for no_picture in (None, 3, True, [image]):
        with pytest.raises(UserError, match="is no picture; expected a path"):
            network.explain(no_picture, 4)
    for array in (image[0], image[:7], image.astype(np.float32)):
        with pytest.raises(UserError, match=r"expected uint8 \[N, 8, 8, 3\]"):
            network.explain(array, 4)


@pytest.mark.parametrize("field", ["size", "stride"])
@pytest.mark.parametrize("value", [0, -1, 9, 2.0, True, "4"])
def test_squares_that_do_not_fit_the_image_are_refused(network, field, value):
    with pytest.raises(UserError, match=f"^{field}={value!r}: expected a whole number, 1 to 8$"):
        network.explain(tiny_split(1, 0).images[0], 4, "occlusion", **{field: value})


def test_a_square_may_cover_the_whole_image(network):
    image = tiny_split(1, 0).images[0]
    assert network.explain(image, 4, "occlusion", size=8, stride=8).shape == (1, 1)
    assert network.explain(image, 4, "occlusion", size=1, stride=8).shape == (2, 2)  # one at each edge


def test_an_unknown_method_is_refused(network):
    with pytest.raises(UserError, match="no method 'lime'; expected one of saliency, occlusion"):
        network.explain(tiny_split(1, 0).images[0], 4, "lime")
