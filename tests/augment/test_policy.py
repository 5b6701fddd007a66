import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.augment.policy import Batch, create_augmentation
from cifar_flax.config import AugmentConfig
from cifar_flax.config.types import FillMode, Policy

SETTINGS = {
    "flip": {"flip": True},
    "alternating_flip": {"flip": True, "alternating_flip": True},
    "rotation": {"rotation": 15.0},
    "width_shift": {"width_shift": 0.2},
    "height_shift": {"height_shift": 0.2, "fill_mode": FillMode.CONSTANT, "fill_value": 0.5},
    "zoom": {"zoom": 0.2, "fill_mode": FillMode.WRAP},
    "crop": {"crop_padding": 2},
    "rand_augment": {"policy": Policy.RAND_AUGMENT, "rand_augment_magnitude": 20},
    "trivial_augment": {"policy": Policy.TRIVIAL_AUGMENT},
    "brightness": {"brightness": 0.4},
    "contrast": {"contrast": 0.4},
    "saturation": {"saturation": 0.4},
    "hue": {"hue": 0.2},
    "cutout": {"cutout": 6},
    "random_erasing": {"random_erasing": 0.8},
    "mixup": {"mixup": 1.0},
    "cutmix": {"cutmix": 1.0},
}
EVERYTHING = AugmentConfig(**{name: value for setting in SETTINGS.values() for name, value in setting.items()})
FIRST = jnp.int32(0)


def batch_of(pictures, channels=3):
    images = jnp.asarray(pictures[..., :channels] / np.float32(255))
    return Batch(images, jax.nn.one_hot(jnp.arange(len(images)), 10), jnp.arange(100, 100 + len(images)))


def compiled(config):
    return jax.jit(create_augmentation(config), compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def augmented(config, key, batch):
    return compiled(config)(key, batch, FIRST)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_each_setting_has_an_effect_and_leaves_images_and_labels_valid(key, pictures, setting):
    batch = batch_of(pictures)
    config = AugmentConfig(**setting)
    after = augmented(config, key, batch)
    assert not np.array_equal(after.images, batch.images)
    assert after.images.shape == batch.images.shape
    assert after.images.dtype == after.labels.dtype == jnp.float32
    assert 0 <= float(after.images.min()) <= float(after.images.max()) <= 1 + 1e-6
    np.testing.assert_allclose(after.labels.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(after.indices, batch.indices)
    assert np.array_equal(after.labels, batch.labels) == (not config.mixup and not config.cutmix)


def test_everything_together_is_a_function_of_the_key(pictures):
    batch = batch_of(pictures, channels=1)
    everything = compiled(EVERYTHING)
    first, again, other = (everything(jax.random.key(i), batch, FIRST) for i in (0, 0, 1))
    assert first.images.shape == batch.images.shape
    assert np.isfinite(first.images).all()
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.images, other.images)


def test_nothing_is_computed_that_the_config_does_not_ask_for(key, pictures):
    batch = batch_of(pictures)
    assert not jax.make_jaxpr(create_augmentation(AugmentConfig()))(key, batch, FIRST).eqns
    default = {field.name: field.default for field in dataclasses.fields(AugmentConfig)}
    same = AugmentConfig(**{**default, "fill_mode": FillMode.WRAP, "fill_value": 0.5, "rand_augment_layers": 3})
    assert not jax.make_jaxpr(create_augmentation(same))(key, batch, FIRST).eqns


def test_switching_one_augmentation_on_does_not_change_the_draws_of_another(key, pictures):
    batch = batch_of(pictures)
    cut = augmented(AugmentConfig(cutout=6), key, batch).images == 0.5
    both = augmented(AugmentConfig(cutout=6, flip=True, brightness=0.3), key, batch).images == 0.5
    assert cut.any()
    np.testing.assert_array_equal(cut.all(-1), both.all(-1))
    labels = augmented(AugmentConfig(mixup=1.0), key, batch).labels
    np.testing.assert_array_equal(augmented(AugmentConfig(mixup=1.0, cutout=6, hue=0.1), key, batch).labels, labels)


def test_the_order_is_that_of_the_fields(key):
    """Padding is never brightened, a cutout is never turned black by a crop, and mixing comes last."""
    white = Batch(jnp.full((64, 8, 8, 3), 0.8), jnp.eye(64), jnp.arange(64))
    dimmed = augmented(AugmentConfig(crop_padding=2, brightness=0.3, cutout=4), key, white).images
    values = [set(np.unique(image)) for image in np.asarray(dimmed)]
    assert all(0.5 in v and len(v - {0.0, 0.5}) == 1 for v in values)
    mixed = augmented(AugmentConfig(cutout=4, cutmix=1.0), key, white)
    changed = np.asarray(mixed.labels).diagonal() < 0.9
    assert ((np.asarray(mixed.images) == 0.5).all(-1).sum((1, 2))[changed] > 16).any()  # squares of both


def test_alternating_flips_follow_the_epoch_and_not_the_key(pictures):
    batch = batch_of(pictures)
    augment = compiled(AugmentConfig(flip=True, alternating_flip=True))
    even, odd, later = (augment(jax.random.key(e), batch, jnp.int32(e)).images for e in range(3))
    np.testing.assert_array_equal(even, odd[:, :, ::-1])
    np.testing.assert_array_equal(even, later)
