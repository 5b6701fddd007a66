import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.evaluation.predict import make_features, make_forward, predict, views
from cifar_flax.runtime.devices import data_parallel_mesh
from cifar_flax.runtime.flag_values import TTA

PREPROCESSING = Preprocessing((6, 5, 3), ("a", "b", "c", "d"), (), (), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
IMAGES = np.random.default_rng(0).integers(0, 256, (23, 6, 5, 3), dtype=np.uint8)


class Net(nn.Module):
    """A module with parameters of its own beside its submodules', and with a head that is not called "logits"."""

    @nn.compact
    def __call__(self, x, train):
        x = x + self.param("shift", nn.initializers.ones, (3,))
        x = nn.tanh(nn.Conv(7, (3, 3))(x)).mean(2)
        x = nn.LayerNorm()(x)
        return nn.Dense(4, name="head")(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def variables():
    return Net().init(jax.random.key(0), jnp.zeros((1, 6, 5, 3)), train=False)


def normalized(images):
    return ((images / 255 - np.array(PREPROCESSING.mean)) / np.array(PREPROCESSING.std)).astype(np.float32)


def forward(tta="none"):
    return make_forward(Net(), PREPROCESSING, jnp.dtype("float32"), data_parallel_mesh(), tta)


def shifted(images, by):
    """Moved down and right by one pixel (by=1) or up and left (by=-1); numpy's reflect padding as the reference."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    return padded[:, 1 - by : 1 - by + images.shape[1], 1 - by : 1 - by + images.shape[2]]


@pytest.mark.parametrize("tta", TTA)
def test_the_views_and_weights_of_each_augmentation(tta):
    images = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    expected = {
        "none": [(images, 1)],
        "flip": [(images, 1 / 2), (images[:, :, ::-1], 1 / 2)],
        "flip+shift": [
            (view, weight)
            for moved, share in ((images, 1 / 2), (shifted(images, -1), 1 / 4), (shifted(images, 1), 1 / 4))
            for view, weight in ((moved, share / 2), (moved[:, :, ::-1], share / 2))
        ],
    }[tta]
    actual = list(views(images, tta))
    assert [weight for _, weight in actual] == [weight for _, weight in expected]
    for (view, _), (reference, _) in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(view, reference)
    assert sum(weight for _, weight in actual) == 1


@pytest.mark.parametrize("batch_size", [1, 10, 23, 2**31 - 1])
def test_every_image_gets_its_logits_in_order(variables, batch_size):
    calls = []
    actual = predict(forward(), variables, IMAGES, batch_size, data_parallel_mesh(), lambda: calls.append(1))
    assert (actual.dtype, actual.shape) == (np.float32, (23, 4))
    np.testing.assert_allclose(actual, Net().apply(variables, normalized(IMAGES), train=False), rtol=1e-4, atol=1e-5)
    assert len(calls) == -(-23 // batch_size)


def test_an_image_gets_the_same_bits_whatever_shares_its_batch(variables):
    mesh, program = data_parallel_mesh(), forward()
    expected = predict(program, variables, IMAGES, 10, mesh)
    order = np.random.default_rng(1).permutation(23)
    np.testing.assert_array_equal(predict(program, variables, IMAGES[order], 10, mesh), expected[order])
    np.testing.assert_array_equal(predict(program, variables, IMAGES[:13], 10, mesh), expected[:13])


def test_images_may_be_memory_mapped(variables, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    program, mesh = forward(), data_parallel_mesh()
    np.testing.assert_array_equal(predict(program, variables, mapped, 10, mesh), predict(program, variables, IMAGES, 10, mesh))


def test_an_exception_between_batches_ends_the_pass(variables):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(forward(), variables, IMAGES, 10, data_parallel_mesh(), stop)


def test_features_are_the_input_of_the_layer_called_last(variables):
    mesh = data_parallel_mesh()
    features = make_features(Net(), PREPROCESSING, jnp.dtype("float32"), mesh)
    actual = predict(features, variables, IMAGES, 10, mesh)
    head = variables["params"]["head"]
    expected = predict(forward(), variables, IMAGES, 10, mesh)
    np.testing.assert_allclose(actual @ head["kernel"] + head["bias"], expected, rtol=1e-4, atol=1e-5)


class Remat(nn.Module):
    """Its last layer is computed anew for the gradient."""

    @nn.compact
    def __call__(self, x, train):
        return nn.remat(nn.Dense)(4, name="head")(nn.remat(Block)(name="block")(x.mean((1, 2))))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(7)(x))


class Scan(nn.Module):
    """Its last layer is within a scan."""

    @nn.compact
    def __call__(self, x, train):
        blocks = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        return blocks(name="blocks")(jnp.pad(x.mean((1, 2)), ((0, 0), (0, 1))), None)[0]


class Step(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(4)(x), None


def test_features_of_a_last_layer_under_remat_are_its_input():
    mesh, variables = data_parallel_mesh(), Remat().init(jax.random.key(0), jnp.zeros((1, 6, 5, 3)), train=False)
    actual = predict(make_features(Remat(), PREPROCESSING, jnp.dtype("float32"), mesh), variables, IMAGES, 10, mesh)
    params = variables["params"]
    inner = params["block"]["Dense_0"]
    expected = np.tanh(normalized(IMAGES).mean((1, 2)) @ inner["kernel"] + inner["bias"])
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_features_of_a_last_layer_within_a_scan_are_refused_in_a_line():
    mesh, variables = data_parallel_mesh(), Scan().init(jax.random.key(0), jnp.zeros((1, 6, 5, 3)), train=False)
    features = make_features(Scan(), PREPROCESSING, jnp.dtype("float32"), mesh)
    with pytest.raises(UserError, match=r"^no features: the last layer, blocks/Dense_0, is within a scan "):
        predict(features, variables, IMAGES, 10, mesh)


def test_features_of_a_network_without_layers_of_its_own_are_refused_in_a_line():
    def forward(self, x, train):
        return x.mean((1, 2)) @ self.param("kernel", nn.initializers.lecun_normal(), (3, 4))

    model = type("Renamed", (nn.Module,), {"__call__": nn.compact(forward)})()
    mesh, variables = data_parallel_mesh(), model.init(jax.random.key(0), jnp.zeros((1, 6, 5, 3)), train=False)
    with pytest.raises(UserError, match=r"^no features: the last layer, Renamed, is within a scan or the like"):
        predict(make_features(model, PREPROCESSING, jnp.dtype("float32"), mesh), variables, IMAGES, 10, mesh)
