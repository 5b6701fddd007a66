"""What would fail a training's first step, or say nothing at its end, is refused before there is a folder."""

import pytest

from cifar_flax.config import ResolutionConfig
from cifar_flax.config.serialize import validated
from cifar_flax.errors import ConfigError
from cifar_flax.training.checks import check_square
from cifar_flax.training.loop import train


def test_images_that_are_not_square_do_not_grow(tiny_config):
    tiny_config.train.resolutions = (ResolutionConfig(0.5, 4),)
    with pytest.raises(ConfigError, match=r"for square images, and these have 8x6 pixels; leave it out"):
        check_square(tiny_config, (8, 6, 3))
    check_square(tiny_config, (8, 8, 1))


@pytest.mark.parametrize(
    ("loss", "custom", "returned"),
    [
        ("tests.optim.test_losses:mean_over_batch", (), "mean_over_batch returned float32"),
        ("cross_entropy", ("tests.augment.test_policy:to_nothing",), "to_nothing returned NoneType"),
    ],
)
def test_functions_that_return_another_shape_are_refused_before_there_is_a_folder(
    tiny_data, tiny_config, tmp_path, loss, custom, returned
):
    tiny_config.loss, tiny_config.augment.custom = loss, custom
    with pytest.raises(ConfigError, match=returned):
        train(validated(tiny_config), tmp_path / "run")
    assert not (tmp_path / "run").exists()
