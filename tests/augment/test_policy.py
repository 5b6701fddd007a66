import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.augment.color import brightness
from cifar_flax.augment.policy import create_augmentation
from cifar_flax.config import AugmentConfig
from cifar_flax.config.types import FillMode, Policy
from cifar_flax.errors import ConfigError

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
    return images, jax.nn.one_hot(jnp.arange(len(images)), 10), jnp.arange(100, 100 + len(images))


def compiled(config):
    return jax.jit(create_augmentation(config), compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def augmented(config, key, batch):
    return compiled(config)(key, *batch, FIRST)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_each_setting_has_an_effect_and_leaves_images_and_targets_valid(key, pictures, setting):
    batch = batch_of(pictures)
    config = AugmentConfig(**setting)
    images, targets = augmented(config, key, batch)
    assert not np.array_equal(images, batch[0])
    assert images.shape == batch[0].shape
    assert images.dtype == targets.dtype == jnp.float32
    assert 0 <= float(images.min()) <= float(images.max()) <= 1 + 1e-6
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    assert np.array_equal(targets, batch[1]) == (not config.mixup and not config.cutmix)


def test_all_settings_at_once_are_a_function_of_the_key(pictures):
    batch = batch_of(pictures, channels=1)
    everything = compiled(EVERYTHING)
    first, again, other = (everything(jax.random.key(i), *batch, FIRST) for i in (0, 0, 1))
    assert first[0].shape == batch[0].shape
    assert np.isfinite(first[0]).all()
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_nothing_is_computed_that_the_config_does_not_ask_for(key, pictures):
    batch = batch_of(pictures)
    assert not jax.make_jaxpr(create_augmentation(AugmentConfig()))(key, *batch, FIRST).eqns
    default = {field.name: field.default for field in dataclasses.fields(AugmentConfig)}
    same = AugmentConfig(**{**default, "fill_mode": FillMode.WRAP, "fill_value": 0.5, "rand_augment_layers": 3})
    assert not jax.make_jaxpr(create_augmentation(same))(key, *batch, FIRST).eqns


def test_switching_one_augmentation_on_does_not_change_the_draws_of_another(key, pictures):
    batch = batch_of(pictures)
    cut = augmented(AugmentConfig(cutout=6), key, batch)[0] == 0.5
    both = augmented(AugmentConfig(cutout=6, flip=True, brightness=0.3), key, batch)[0] == 0.5
    assert cut.any()
    np.testing.assert_array_equal(cut.all(-1), both.all(-1))
    _, targets = augmented(AugmentConfig(mixup=1.0), key, batch)
    np.testing.assert_array_equal(augmented(AugmentConfig(mixup=1.0, cutout=6, hue=0.1), key, batch)[1], targets)


def test_the_order_is_that_of_the_fields(key):
    """Padding is never brightened, a cutout is never turned black by a crop, and mixing comes last."""
    white = jnp.full((64, 8, 8, 3), 0.8), jnp.eye(64), jnp.arange(64)
    dimmed, _ = augmented(AugmentConfig(crop_padding=2, brightness=0.3, cutout=4), key, white)
    values = [set(np.unique(image)) for image in np.asarray(dimmed)]
    assert all(0.5 in v and len(v - {0.0, 0.5}) == 1 for v in values)
    mixed, targets = augmented(AugmentConfig(cutout=4, cutmix=1.0), key, white)
    changed = np.asarray(targets).diagonal() < 0.9
    assert ((np.asarray(mixed) == 0.5).all(-1).sum((1, 2))[changed] > 16).any()  # squares of both


def test_alternating_flips_follow_the_epoch_and_not_the_key(pictures):
    batch = batch_of(pictures)
    augment = compiled(AugmentConfig(flip=True, alternating_flip=True))
    even, odd, later = (augment(jax.random.key(e), *batch, jnp.int32(e))[0] for e in range(3))
    np.testing.assert_array_equal(even, odd[:, :, ::-1])
    np.testing.assert_array_equal(even, later)


def dim(key, images):
    """A user's own transform: one of `config.augment.custom`."""
    return brightness(images, jax.random.uniform(key, (len(images),), minval=0.2, maxval=0.6))


def to_bfloat16(key, images):
    return images.astype(jnp.bfloat16)


def to_one_image(key, images):
    return images[0]


def to_nothing(key, images):
    return None


def misspelt(key, images):
    return images.flop(1)


def custom(*names, **options):
    return AugmentConfig(custom=tuple(name if name == "flip" else f"{__name__}:{name}" for name in names), **options)


def test_custom_transforms_come_after_ours_and_before_mixing(key):
    white = jnp.full((64, 8, 8, 3), 0.8), jnp.eye(64), jnp.arange(64)
    images, _ = augmented(custom("dim", cutout=4), key, white)
    assert images.max() <= 0.48 + 1e-6  # .6 of the white, .3 where it was cut to .5
    mixed, targets = augmented(custom("dim", mixup=1.0), key, white)
    plain, _ = augmented(custom("dim"), key, white)
    share = targets.diagonal()[:, None, None, None]
    np.testing.assert_allclose(mixed, share * plain + (1 - share) * np.roll(plain, 1, 0), atol=1e-6)


def test_custom_transforms_draw_alike_whatever_else_is_on(key, pictures):
    batch = batch_of(pictures)
    first, _ = augmented(custom("dim"), key, batch)
    factors = np.asarray(first).sum((1, 2, 3)) / np.asarray(batch[0]).sum((1, 2, 3))
    assert len(np.unique(factors.round(4))) == len(factors)
    after, _ = augmented(custom("dim", flip=True), key, batch)
    np.testing.assert_allclose(np.asarray(after).sum((1, 2, 3)) / np.asarray(batch[0]).sum((1, 2, 3)), factors, rtol=1e-4)
    twice, _ = augmented(custom("dim", "dim"), key, batch)
    second = np.asarray(twice).sum((1, 2, 3)) / np.asarray(first).sum((1, 2, 3))
    assert (abs(second - factors) > 1e-3).all()


def test_registered_names_serve_as_custom_transforms(key, pictures):
    batch = batch_of(pictures)
    images, _ = augmented(custom("dim", "flip"), key, batch)
    plain, _ = augmented(custom("dim"), key, batch)
    flipped = [np.array_equal(a, b[:, ::-1]) for a, b in zip(images, plain, strict=True)]
    assert 0 < sum(flipped) < len(flipped)


@pytest.mark.parametrize(
    ("name", "returned"),
    [("to_bfloat16", r"bfloat16\[8,28,36,3\]"), ("to_one_image", r"float32\[28,36,3\]"), ("to_nothing", "NoneType")],
)
def test_a_custom_transform_that_returns_no_images_is_refused_by_name(key, pictures, name, returned):
    with pytest.raises(
        ConfigError, match=rf"^config\.augment\.custom: .*:{name} returned {returned}, not float32\[8,28,36,3\]"
    ):
        augmented(custom(name), key, batch_of(pictures))


def test_a_custom_transform_that_raises_is_named_with_its_place(key, pictures):
    with pytest.raises(
        ConfigError, match=r"^config\.augment\.custom: .*:misspelt raised AttributeError: .* \(test_policy\.py, line \d+\)"
    ):
        augmented(custom("misspelt"), key, batch_of(pictures))


def test_an_unknown_custom_transform_is_refused_before_training():
    with pytest.raises(ConfigError, match=r"augment\.custom\[1\]: there is no augmentation 'flop'; did you mean flip"):
        create_augmentation(AugmentConfig(custom=("flip", "flop")))
