import pytest

from cifar_flax.config.recipe import BOOKKEEPING, DRAWS, ROUNDING, is_recipe
from tests.helpers.overrides import FIELDS


def test_the_fields_that_are_named_exist():
    paths = [f"config.{path}" for path in FIELDS]
    for prefix in (*BOOKKEEPING, *ROUNDING, *DRAWS):
        assert any(path.startswith(prefix) for path in paths), prefix


@pytest.mark.parametrize(
    ("path", "recipe"),
    [
        ("config.optim.learning_rate", True),
        ("config.train.batch_size", True),
        ("config.data.name", True),
        ("config.train.teacher", True),
        ("config.seed", False),
        ("config.data.folds", False),
        ("config.data.validation_fraction", False),
        ("config.train.dtype", False),
        ("config.log.every_steps", False),
    ],
)
def test_the_recipe_is_what_is_learnt_but_for_chance_and_rounding(path, recipe):
    assert path.removeprefix("config.") in FIELDS
    assert is_recipe(path) is recipe
