import itertools
from pathlib import Path

import pytest

from cifar_flax.config import Activation, Config
from cifar_flax.config.files import load_config
from cifar_flax.errors import UserError
from cifar_flax.models import DenseConfig
from cifar_flax.search.space import Choice, IntRange, LogUniform, Space, Uniform, fingerprint
from tests.conftest import ROOT

SPACES = ROOT / "configs" / "search"


@pytest.fixture
def space(tmp_path):
    """Builds a Space from the lines of a space file."""

    def build(domains, apply=""):
        path = tmp_path / "space.py"
        head = "from cifar_flax.config import *\nfrom cifar_flax.models import *\nfrom cifar_flax.search.space import *\n"
        path.write_text(f"{head}def get_space():\n    return {domains}\n{apply}")
        return Space.load(path)

    return build


def test_values_reach_the_fields_that_their_paths_name(space):
    base = Config()
    base.model.dense = (DenseConfig(8), DenseConfig(9))
    actual = space('{"optim.learning_rate": LogUniform(1e-4, 1e-2), "model.dense[1].features": IntRange(1, 64)}')
    config = actual.configure(base, {"optim.learning_rate": 0.002, "model.dense[1].features": 17})
    assert (config.optim.learning_rate, config.model.dense[1].features, config.model.dense[0].features) == (0.002, 17, 8)
    assert base == Config(model=base.model), "the base is left as it was"
    assert base.model.dense[1].features == 9


def test_enums_come_back_as_enums(space):
    actual = space('{"model.activation": Choice((Activation.ELU, "tanh"))}')
    assert [actual.configure(Config(), values).model.activation for values in actual.grid()] == [
        Activation.ELU,
        Activation.TANH,
    ]


def test_a_grid_is_every_combination_once_in_order(space):
    actual = space('{"train.batch_size": Choice((32, 64)), "augment.cutout": IntRange(0, 16, 8), "optim.eps": Choice((1e-7,))}')
    assert [tuple(values.values()) for values in actual.grid()] == list(itertools.product((32, 64), (0, 8, 16), (1e-7,)))
    with pytest.raises(UserError, match=r"optim\.learning_rate is LogUniform.*--strategy=grid needs Choice or IntRange"):
        space('{"optim.learning_rate": LogUniform(1e-4, 1e-2)}').grid()


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (
            '{"optim.learning_rte": Uniform(0.1, 0.2)}',
            r"config\.optim\.learning_rte: no such field\. Did you mean config\.optim\.learning_rate\?",
        ),
        ('{"model.dense[1].features": IntRange(1, 9)}', r"config\.model\.dense\[1\]: no such entry"),
        ('{"model.activation": Choice(("relu", "relux"))}', r"config\.model\.activation: .*'relux'"),
        ('{"optim.learning_rate": Uniform(-1.0, 1.0)}', r"config\.optim\.learning_rate: .*greater than 0.*-1\.0"),
        ('{"train.num_seeds": Choice((1, 3))}', r"^config\.train\.num_seeds: 3, but a trial trains one seed; set it to 1 "),
        ('{"train.batch_size": Uniform(8, 9.5)}', r"config\.train\.batch_size: .*9\.5"),
        ('{"train.batch_size": LogUniform(5, 20)}', r"config\.train\.batch_size: .*10\.7.*; IntRange is for whole numbers"),
        (
            '{"data.validation_fraction": Choice((0.1, 0.0))}',
            r"config\.data\.validation_fraction: .*or give --folds .* at data\.validation_fraction=0\)",
        ),
        (
            '{"optim.name": Choice(("adamw", "adam")), "optim.weight_decay": Choice((0.0, 0.1))}',
            r"^config\.optim\.weight_decay: no such field of adam; .*adamw.* at optim\.name=adam, optim\.weight_decay",
        ),
    ],
)
def test_what_the_config_refuses_is_reported_before_anything_trains(space, domains, message):
    with pytest.raises(UserError, match=message) as error:
        space(domains).check(Config(), None)
    assert len(str(error.value).splitlines()) == 1


def test_validation_images_are_needed_where_the_search_makes_no_folds(space):
    space('{"data.validation_fraction": Choice((0.1, 0.0))}').check(Config(), folds=2)
    base = Config()
    base.data.validation_fraction = 0.0
    space('{"data.validation_fraction": Choice((0.1, 0.2))}').check(base, None)
    with pytest.raises(UserError, match="a search chooses by validation top-1"):
        space('{"optim.learning_rate": Choice((0.1, 0.2))}').check(base, None)


def test_a_space_too_large_to_check_whole_has_each_value_checked(space, monkeypatch):
    monkeypatch.setattr("cifar_flax.search.space.CHECKED_COMBINATIONS", 20)
    choices = ", ".join(f"'optim.{name}': Choice((0.1, 0.2, 0.3, 0.4, 0.5))" for name in ("b1", "b2", "eps", "ema_decay"))
    space(f"{{{choices}}}").check(Config(), None)
    bad = "'optim.label_smoothing': Choice((0.1,) * 30 + (1.5,))"
    with pytest.raises(UserError, match=r"config\.optim\.label_smoothing"):
        space(f"{{{choices}, {bad}}}").check(Config(), None)


def test_apply_does_what_paths_cannot_say_and_leaves_the_rest(space):
    actual = space(
        '{"extra.units": IntRange(0, 4), "optim.eps": Choice((1e-5,))}',
        "def apply(config, values):\n"
        "    units = values.pop('extra.units')\n"
        "    config.model.dense += (DenseConfig(units),) if units else ()\n",
    )
    actual.check(Config(), None)
    assert actual.configure(Config(), {"extra.units": 0, "optim.eps": 1e-5}).model.dense == ()
    config = actual.configure(Config(), {"extra.units": 3, "optim.eps": 1e-5})
    assert (config.model.dense, config.optim.eps) == ((DenseConfig(3),), 1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Choice(()), "Choice"),
        (lambda: Choice((("block*",),)), r"use apply\(\)"),
        (lambda: IntRange(5, 5), "low < high"),
        (lambda: IntRange(0, 5, 2), "whole number of steps"),
        (lambda: IntRange(10.0, 20.0, 5), "expected whole numbers"),
        (lambda: Uniform(1.0, 0.0), "low < high"),
        (lambda: LogUniform(0.0, 1.0), "0 < low < high"),
    ],
)
def test_domains_that_make_no_sense_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_a_bare_name_is_a_space_of_the_package():
    assert Space.load(Path("wide_grid")).path == SPACES / "wide_grid.py"


def test_files_that_are_no_spaces_are_refused(space, tmp_path):
    with pytest.raises(UserError, match=r"none\.py: no such file"):
        Space.load(tmp_path / "none.py")
    with pytest.raises(UserError, match=r"expected one of learning_rate, summit, vgg_bn_random, wide_grid"):
        Space.load(Path("none"))
    for domains, message in (
        ("1 / 0", "ZeroDivisionError"),
        ("{'rank': IntRange(1, 9)}", r"rank: is the name of a column of trials\.csv; choose another$"),
        ("{}", "nothing to vary"),
        ("{'seed': 3}", "seed: expected Choice"),
    ):
        with pytest.raises(UserError, match=message):
            space(domains)


def test_fingerprints_differ_where_results_may(space):
    assert space("{'seed': IntRange(0, 3)}").fingerprint() != space("{'seed': IntRange(0, 4)}").fingerprint()
    other = Config()
    other.log.every_steps, other.checkpoint.keep_latest = 7, 9
    assert fingerprint(other, None) == fingerprint(Config(), None) != fingerprint(Config(), 5)
    other.optim.learning_rate = 0.5
    assert fingerprint(other, None) != fingerprint(Config(), None)


def load(config_file, init_from=""):
    config = load_config(str(ROOT / "configs" / config_file))
    config.train.init_from = init_from
    return config


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("wide_grid", "wide.py"),
        ("wide_grid", "narrow.py"),
        ("wide_grid", "deep.py"),
        ("vgg_bn_random", "vgg_bn.py:search"),
        ("learning_rate", "quickstart.py"),
        ("summit", "summit.py:minute"),
        ("summit", "summit.py:select"),
    ],
)
def test_the_spaces_that_come_with_the_code_suit_their_configs(name, config):
    Space.load(SPACES / f"{name}.py").check(load(config, "runs/vgg_bn"), 5)


def test_every_decay_of_wide_grid_has_an_effect():
    actual = Space.load(SPACES / "wide_grid.py")
    assert {actual.configure(load("three_conv.py"), values).optim.schedule for values in actual.grid()} == {"inverse_time"}


def test_vgg_bn_random_adds_a_layer_of_the_units_drawn():
    actual, base = Space.load(SPACES / "vgg_bn_random.py"), load("vgg_bn.py:search", "runs/vgg_bn")
    values = {"optim.name": "adamax", "second_dense.units": 0, "second_dense.activation": "linear"}
    assert actual.configure(base, values).model.dense == base.model.dense
    config = actual.configure(base, {**values, "second_dense.units": 512})
    assert config.model.dense == (*base.model.dense, DenseConfig(512, Activation.LINEAR))
    assert (config.optim.name, config.optim.freeze, config.train.epochs) == ("adamax", ("block*",), 20)


def test_vgg_bn_random_gives_each_optimizer_the_rate_that_keras_2_gives_it():
    actual, base = Space.load(SPACES / "vgg_bn_random.py"), load("vgg_bn.py:search", "runs/vgg_bn")
    layer = {"second_dense.units": 0, "second_dense.activation": "linear"}
    names = actual.domains["optim.name"].values
    assert {name: actual.configure(base, {"optim.name": name, **layer}).optim.learning_rate for name in names} == {
        "adam": 0.001,
        "adamax": 0.002,
        "adagrad": 0.01,
        "adadelta": 1.0,
        "rmsprop": 0.001,
        "sgd": 0.01,
    }


def test_vgg_bn_random_is_refused_without_trained_convolutions_to_freeze():
    with pytest.raises(UserError, match=r"config\.optim\.freeze: .*--config\.train\.init_from=RUN"):
        Space.load(SPACES / "vgg_bn_random.py").check(load("vgg_bn.py:search"), 5)


def test_a_base_of_several_seeds_is_refused(space):
    base = Config()
    base.train.num_seeds = 2
    with pytest.raises(UserError, match=r"^config\.train\.num_seeds: 2, but a trial trains one seed"):
        space('{"optim.learning_rate": Choice((0.1, 0.01))}').check(base, None)


def test_a_search_goes_on_with_the_code_that_it_began_with_whatever_its_comments(space):
    def fingerprint_of(helper):
        apply = "def apply(config, values): grow(config, values.pop('units'))"
        return space('{"units": IntRange(1, 9)}', f"{helper}\n{apply}").fingerprint()

    assert fingerprint_of("def grow(config, n): pass") == fingerprint_of("def grow(config, n): pass  # a remark")
    assert fingerprint_of("def grow(config, n): pass") != fingerprint_of("def grow(config, n): config.seed = n")
    partial = "from functools import partial\ndef grow(config, values): pass\napply = partial(grow)"
    assert space('{"units": IntRange(1, 9)}', partial).fingerprint()
