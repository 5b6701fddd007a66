import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cifar_flax.augment import warp as module
from cifar_flax.augment.warp import affine
from cifar_flax.config.types import FillMode

SCIPY_MODES = {
    FillMode.NEAREST: "nearest",
    FillMode.REFLECT: "reflect",
    FillMode.WRAP: "grid-wrap",
    FillMode.CONSTANT: "grid-constant",
}
warp = jax.jit(module.warp, static_argnames="mode")
every_mode = pytest.mark.parametrize("mode", FillMode)


@pytest.fixture
def image():
    return np.random.default_rng(0).random((12, 9, 3), dtype=np.float32)


@every_mode
@pytest.mark.parametrize(
    ("matrix", "offset"),
    [
        (np.eye(2), (0.0, 0.0)),
        (np.eye(2), (2.0, -3.0)),
        (np.eye(2), (-1.75, 4.5)),
        (np.eye(2), (-40.3, 51.6)),  # several images away
        ([[0.9, -0.4], [0.3, 1.2]], (1.3, -2.7)),
        ([[-1.6, 0.2], [0.1, 2.5]], (9.2, -6.4)),
    ],
)
def test_warp_equals_scipy(image, mode, matrix, offset):
    warped = warp(jnp.asarray(image), jnp.asarray(matrix, jnp.float32), jnp.asarray(offset), mode, 0.3)
    options = {"order": 1, "mode": SCIPY_MODES[mode], "cval": 0.3}
    expected = [ndimage.affine_transform(image[..., c], matrix, offset, **options) for c in range(3)]
    np.testing.assert_allclose(warped, np.stack(expected, -1), atol=2e-5)


@every_mode
@pytest.mark.parametrize("degrees", [15, -30, 90])
def test_a_rotation_is_scipys_the_other_way_round(image, mode, degrees):
    turned = warp(jnp.asarray(image), *affine(jnp.float32(degrees), jnp.zeros(2), jnp.ones(2), (12, 9)), mode, 0.3)
    expected = ndimage.rotate(image, -degrees, reshape=False, order=1, mode=SCIPY_MODES[mode], cval=0.3)
    np.testing.assert_allclose(turned, expected, atol=2e-5)


def test_a_shift_is_scipys(image):
    shifted = warp(jnp.asarray(image), *affine(jnp.float32(0), jnp.array([1.5, -2.25]), jnp.ones(2), (12, 9)), FillMode.NEAREST)
    np.testing.assert_allclose(shifted, ndimage.shift(image, (-1.5, 2.25, 0), order=1, mode="nearest"), atol=1e-6)


def test_a_scale_of_two_halves_the_picture_about_its_centre():
    image = np.zeros((8, 8, 1), np.float32)
    image[0:8, 2:6] = 1
    halved = warp(jnp.asarray(image), *affine(jnp.float32(0), jnp.zeros(2), jnp.full(2, 2.0), (8, 8)), FillMode.CONSTANT)
    expected = np.zeros((8, 8))
    expected[2:6, 3:5] = 1
    np.testing.assert_allclose(halved[..., 0], expected, atol=1e-6)


def test_rotation_shift_and_zoom_compose_as_in_keras():
    """Homogeneous matrices as keras.preprocessing.image.apply_affine_transform multiplies them."""
    angle, shifts, scales, (height, width) = np.deg2rad(20), (3.0, -2.0), (0.8, 1.3), (32, 24)
    rotate = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shift = np.array([[1, 0, shifts[0]], [0, 1, shifts[1]], [0, 0, 1]])
    to_centre = np.array([[1, 0, (height - 1) / 2], [0, 1, (width - 1) / 2], [0, 0, 1]])
    expected = to_centre @ rotate @ shift @ np.diag([*scales, 1]) @ np.linalg.inv(to_centre)
    matrix, offset = affine(jnp.float32(20), jnp.array(shifts), jnp.array(scales), (height, width))
    np.testing.assert_allclose(matrix, expected[:2, :2], atol=1e-6)
    np.testing.assert_allclose(offset, expected[:2, 2], atol=1e-5)
