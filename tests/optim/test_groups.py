import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.config import GroupConfig
from cifar_flax.errors import UserError
from cifar_flax.optim import SGD, Adam, AdamW, Lion, Muon, MuonSGD
from cifar_flax.optim.groups import check_patterns
from tests.optim.test_optimizers import RATE, adam, descend, draw, lion, muon, sgd

START, GRADS = draw(0), [draw(seed) for seed in range(1, 5)]
GROUPS = (
    GroupConfig("block0_*", learning_rate=0.0),
    GroupConfig("*/bias", learning_rate=3.0),
    GroupConfig("logits/*", learning_rate=0.5, weight_decay=0.2),
    GroupConfig("dense0/kernel", learning_rate=2.0, weight_decay=0.0),
)
HELD = {  # by the first group that matches: factor of the rate, weight decay
    ("block0_conv0", "kernel"): (0.0, 0.1),
    ("block0_conv0", "bias"): (0.0, 0.0),
    ("dense0", "kernel"): (2.0, 0.0),
    ("logits", "kernel"): (0.5, 0.2),
    ("logits", "bias"): (3.0, 0.0),
}


@pytest.mark.parametrize(("spec", "rule"), [(SGD, sgd), (AdamW, adam), (Lion, lion), (Muon, None)])
def test_the_first_group_that_matches_sets_rate_and_decay(spec, rule):
    params = descend(spec(weight_decay=0.1, groups=GROUPS), START, GRADS)
    for (module, leaf), (factor, decay) in HELD.items():
        expected = (rule or (muon if leaf == "kernel" and module != "logits" else adam))(
            START[module][leaf], [g[module][leaf] for g in GRADS], decay=decay, rate=factor * RATE
        )
        np.testing.assert_allclose(params[module][leaf], expected, rtol=1e-4, atol=1e-5, err_msg=f"{module}/{leaf}")


def test_the_common_decay_may_be_0():
    groups = (GroupConfig("logits/*", weight_decay=0.2),)
    params = descend(AdamW(groups=groups), START, GRADS)
    for module, decay in (("dense0", 0.0), ("logits", 0.2)):
        expected = adam(START[module]["kernel"], [g[module]["kernel"] for g in GRADS], decay=decay)
        np.testing.assert_allclose(params[module]["kernel"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ("block0_*", "block9_*")}, r"^config\.optim\.freeze\[1\]: 'block9_\*' matches no parameter; .*block0_\w+/"),
        ({"freeze": ("dense0",)}, r"freeze\[0\]: 'dense0' matches no parameter; .* such as dense0/kernel"),
        ({"groups": (GroupConfig("Logits/*"),)}, r"^config\.optim\.groups\[0\]\.pattern: 'Logits/\*' .* logits/"),
        ({"groups": (GroupConfig("*/bias", weight_decay=0.1),)}, r"groups\[0\]\.weight_decay: '\*/bias' matches no kernel"),
        (
            {"groups": (GroupConfig("*", weight_decay=0.1), GroupConfig("logits/*", learning_rate=2.0))},
            r"groups\[1\]\.pattern: all that 'logits/\*' matches is of an earlier group, which counts; put this one before it",
        ),
        ({"freeze": ("*/kernel", "*/bias", "*/scale")}, r"^config\.optim\.freeze: .* leaves nothing to train"),
    ],
)
def test_patterns_without_effect_and_a_network_all_frozen_are_refused(options, message):
    with pytest.raises(UserError, match=message) as error:
        check_patterns(Adam(**options), START)
    assert "\n" not in str(error.value)


ATTENTION = {
    "attention": {
        name: {"kernel": jnp.full((16, 2, 8), 0.5), "bias": jnp.full((2, 8), 0.5)} for name in ("query", "key", "value")
    },
    "tokens": jnp.full((1, 3, 16), 0.5),
    "logits": {"kernel": jnp.full((16, 4), 0.5), "bias": jnp.full(4, 0.5)},
}


@pytest.mark.parametrize("spec", [SGD, AdamW, Lion, Muon])
def test_biases_of_attention_do_not_decay_and_kernels_and_tokens_do(spec):
    zeros = jax.tree.map(jnp.zeros_like, ATTENTION)
    params = descend(spec(weight_decay=0.1), ATTENTION, [zeros])
    for path, p in jax.tree_util.tree_leaves_with_path(params):
        assert (p < 0.5).all() == ("bias" not in jax.tree_util.keystr(path)), path


def test_a_weight_decay_of_biases_alone_is_refused_even_where_they_have_two_axes():
    with pytest.raises(UserError, match=r"^config\.optim\.groups\[0\]\.weight_decay: 'attention/\*/bias' matches no kernel"):
        check_patterns(AdamW(groups=(GroupConfig("attention/*/bias", weight_decay=0.1),)), ATTENTION)


def test_muon_sgd_has_one_rate_for_all_convolutions():
    """A factor would also scale what brings their kernels back to their norm, and the norm would drift."""
    logits = GroupConfig("logits/*", learning_rate=0.5)
    for groups in ((GroupConfig("*", learning_rate=0.1),), (logits, GroupConfig("*/kernel", learning_rate=2.0))):
        with pytest.raises(
            UserError, match=r"^config\.optim\.groups: block0_conv0/kernel has .*config\.optim\.muon\.learning_rate"
        ):
            check_patterns(MuonSGD(groups=groups), START)
    convolutions_first = (GroupConfig("block0_conv0/*"), GroupConfig("*", learning_rate=0.1))
    check_patterns(MuonSGD(groups=convolutions_first), START)


def test_muon_sgd_is_refused_where_it_would_train_no_convolution():
    for spec, params in ((MuonSGD(freeze=("block0_conv0/*",)), START), (MuonSGD(), {"logits": START["logits"]})):
        with pytest.raises(UserError, match=r"^config\.optim\.muon: this network has no convolution that is trained"):
            check_patterns(spec, params)


def test_muon_sgd_decays_no_convolution():
    """Its norm is kept whatever the decay is."""
    with pytest.raises(UserError, match=r"^config\.optim\.groups: block0_conv0/kernel has a weight decay, and muon_sgd keeps"):
        check_patterns(MuonSGD(groups=(GroupConfig("*/kernel", weight_decay=0.1),)), START)
    check_patterns(MuonSGD(groups=(GroupConfig("logits/kernel", weight_decay=0.1),)), START)


def test_patterns_that_match_pass():
    check_patterns(Adam(groups=GROUPS, freeze=("block0_*", "*/b[ij]as")), START)
