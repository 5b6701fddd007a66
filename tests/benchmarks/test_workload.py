import dataclasses

import numpy as np
import pytest

from benchmarks.workload import LEARNING_RATE, Answer, check_agreement, common_recipe
from cifar_flax.config import AugmentConfig, Config
from cifar_flax.config.files import load_config
from cifar_flax.errors import RunFailed
from cifar_flax.optim import SGD, Adam
from tests.conftest import ROOT

ANSWER = Answer(np.ones((2, 3)), np.ones((2, 3)), {"a/kernel": np.ones((3, 4)), "a/bias": np.ones(4)})


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("wide", Adam()),
        ("narrow:short", Adam()),  # AdamW
        ("wide:published", SGD(momentum=0.9, nesterov=True)),  # RMSprop
        ("three_conv:sgd_tuned", SGD(momentum=0.9, nesterov=True)),
        ("fast", SGD(momentum=0.9, nesterov=True)),  # Muon
    ],
)
def test_the_optimizer_is_one_that_all_have(name, optimizer):
    stem, _, variant = name.partition(":")
    before = load_config(str(ROOT / "configs" / f"{stem}.py:{variant}"))
    after = common_recipe(before)
    kept = {"freeze": before.optim.freeze, "label_smoothing": before.optim.label_smoothing}
    assert after.optim == dataclasses.replace(optimizer, learning_rate=LEARNING_RATE, **kept)
    assert (after.augment, after.model, after.train) == (AugmentConfig(), before.model, before.train)


def test_the_config_that_it_is_made_from_stays_as_it_is():
    before = load_config(str(ROOT / "configs" / "fast.py"))
    common_recipe(before)
    assert before == load_config(str(ROOT / "configs" / "fast.py"))
    assert common_recipe(Config()).model is not Config().model


def test_rounding_is_no_disagreement():
    rounded = dataclasses.replace(ANSWER, logits=ANSWER.logits * (1 + 1e-4))
    assert check_agreement("torch", [ANSWER], [rounded]) == pytest.approx(1e-4)


def test_of_several_draws_the_closest_counts_and_a_difference_in_all_is_one():
    off = [dataclasses.replace(ANSWER, gradients={**ANSWER.gradients, "a/bias": np.full(4, x)}) for x in (1.02, 1.0001, 1.01)]
    assert check_agreement("torch", [ANSWER] * 3, off) == pytest.approx(1e-4)
    with pytest.raises(RunFailed, match=r"by 1\.0e-02 in the gradient of a/bias"):
        check_agreement("torch", [ANSWER] * 2, off[::2])


def test_what_is_not_finite_agrees_with_nothing():
    broken = dataclasses.replace(ANSWER, logits=np.full((2, 3), np.nan))
    for ours, theirs in ((broken, ANSWER), (ANSWER, broken), (broken, broken)):
        with pytest.raises(RunFailed, match="by inf in the logits"):
            check_agreement("torch", [ours], [theirs])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"logits": np.full((2, 3), 1.01)}, "logits"),
        ({"eval_logits": np.full((2, 3), np.nan)}, "logits in evaluation"),
        ({"gradients": {**ANSWER.gradients, "a/bias": np.array([1, 1, 1, 1.01])}}, "gradient of a/bias"),
        ({"gradients": {**ANSWER.gradients, "a/kernel": np.ones((4, 3))}}, "gradient of a/kernel"),
        ({"gradients": {"a/kernel": np.ones((3, 4))}}, "a/bias"),
    ],
)
def test_another_network_is_not_timed(change, what):
    with pytest.raises(RunFailed, match=what):
        check_agreement("torch", [ANSWER], [dataclasses.replace(ANSWER, **change)])
