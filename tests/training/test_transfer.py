import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_flax.config import AugmentConfig, BatchNorm, Normalization
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import validated
from cifar_flax.config.specs import OptimizerSpec
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.models import BlockConfig, ConvNet, DenseConfig
from cifar_flax.runtime.devices import data_parallel_mesh
from cifar_flax.training.checkpoints.manager import Checkpoints
from cifar_flax.training.loop import train
from cifar_flax.training.progress import Progress
from cifar_flax.training.run_dir import open_run_dir
from cifar_flax.training.trainer import Trainer
from cifar_flax.training.transfer import init_from_run, load_source
from tests.conftest import TINY_CONFIG

KERNEL, NORM, DENSE = 3 * 3 * 3 * 8, 8 + 8, (4 * 4 * 8 + 1) * 16  # parameters; the convolution's bias is BatchNorm's


def config(init_from=""):
    """One convolution with BatchNorm, a hidden layer of 16 and an average of the parameters."""
    c = load_config(str(TINY_CONFIG))
    c.augment, c.train.epochs, c.train.init_from = AugmentConfig(), 1, str(init_from)
    return c


def write_run(c, folder):
    """A run as training would leave it, whose best checkpoint is the older, and whose averages are the initial values + 1."""
    trainer = Trainer.from_config(validated(c))
    (state,) = trainer.initialize()
    open_run_dir(folder, validated(c), trainer.preprocessing).close()
    with Checkpoints(folder, c.checkpoint) as checkpoints:
        for step, top1, change in ((9, 0.5, 1.0), (18, 0.4, 2.0)):
            average = jax.tree.map(lambda x, change=change: x + change, state.ema)
            saved = dataclasses.replace(state, step=jnp.int32(step), ema=average)
            checkpoints.save(step, saved, Progress(step // 9), {"top1": top1})
    return state


@pytest.fixture(scope="module")
def donor(tiny_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("donor") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        return folder, write_run(config(), folder)


def test_what_fits_is_taken_over_and_the_rest_is_drawn(donor, tiny_data, capsys):
    workdir, there = donor
    c = config(workdir)
    c.seed = 1
    c.model.dense = (DenseConfig(16), DenseConfig(12))  # the logits see 12 features, not 16
    (actual,) = Trainer.from_config(validated(c)).initialize()
    c.train.init_from = ""
    (fresh,) = Trainer.from_config(validated(c)).initialize()
    for name in ("block0_conv0", "block0_conv0_norm", "dense0"):
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y + 1), actual.params[name], there.params[name])
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y + 1), actual.batch_stats, there.batch_stats)
    jax.tree.map(np.testing.assert_array_equal, actual.params["dense1"], fresh.params["dense1"])
    np.testing.assert_array_equal(actual.params["logits"]["kernel"], fresh.params["logits"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, actual.ema, {"params": actual.params, "batch_stats": actual.batch_stats})
    assert jax.tree.structure(actual) == jax.tree.structure(fresh)
    taken, rest = KERNEL + NORM + DENSE + 10, 17 * 12 + 12 * 10  # the bias of the logits fits too
    expected = f"took over 6 of 9 parameter tensors, {taken:,} of {taken + rest:,} parameters, from {workdir}, checkpoint 9\n"
    assert expected in capsys.readouterr().out


def test_a_run_begins_with_the_others_parameters_but_goes_on_with_its_own(tiny_data, tmp_path, capsys):
    c = config()
    c.model.blocks, c.model.dense, c.optim.learning_rate = (), (), 1e-6
    there = write_run(c, tmp_path / "donor").params["logits"]["kernel"]
    c.seed, c.train.init_from = 1, str(tmp_path / "donor")
    state = train(validated(c), tmp_path / "run")
    np.testing.assert_allclose(state.params["logits"]["kernel"], there + 1, atol=1e-4)
    assert "took over 2 of 2 parameter tensors" in capsys.readouterr().out

    (tmp_path / "donor").rename(tmp_path / "gone")
    c.train.epochs = 2
    state = train(validated(c), tmp_path / "run")
    assert int(state.step) == 18
    np.testing.assert_allclose(state.params["logits"]["kernel"], there + 1, atol=1e-4)
    assert "took over" not in capsys.readouterr().out


def test_a_folder_of_seeds_is_the_one_that_is_best_in_validation(donor, tmp_path):
    (tmp_path / "seed1").symlink_to(donor[0])
    (tmp_path / "seeds.json").write_text('{"score": "validation_top1", "seeds": {"seed0": 0.4, "seed1": 0.5}}')
    network, name = load_source(str(tmp_path), "config.train.init_from")
    assert (network.step, name) == (9, f"{tmp_path / 'seed1'}, checkpoint 9")


def test_what_cannot_be_taken_over_is_refused_before_there_is_a_run(donor, tiny_data, tmp_path):
    with pytest.raises(
        UserError, match=r"^config\.train\.init_from: .*nowhere: no such run directory; expected one, or pretrained:NAME$"
    ) as error:
        train(validated(config(tmp_path / "nowhere")), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not isinstance(error.value, ConfigError), "the run may yet come to be there"

    other = dataclasses.replace(
        Trainer.from_config(validated(config())).abstract_state, params={"stem": {"kernel": jnp.zeros((2, 3))}}
    )
    with pytest.raises(UserError, match=r"no parameter of .* \(there: .*conv0/kernel \[3, 3, 3, 8\], .*; here: stem/kernel"):
        init_from_run([other], config(donor[0]), optax.identity(), data_parallel_mesh())


@dataclasses.dataclass(slots=True)
class Anchored(OptimizerSpec):
    """Keeps the parameters that it begins with, as schedule-free optimizers do, and makes no step from them."""

    def transform(self, schedule):
        anchor = optax.GradientTransformation(lambda params: params, self.update)
        return optax.chain(optax.scale(0.0), anchor)

    @staticmethod
    def update(updates, state, params):
        return jax.tree.map(lambda update, kept, param: update + kept - param, updates, state, params), state


def test_the_optimizer_begins_with_what_was_taken_over_too(donor, tiny_data, tmp_path):
    c = config(donor[0])
    c.optim = Anchored(ema_decay=0.9)
    state = train(validated(c), tmp_path / "run")
    np.testing.assert_allclose(state.params["block0_conv0"]["kernel"], donor[1].params["block0_conv0"]["kernel"] + 1, atol=1e-6)


@dataclasses.dataclass(slots=True)
class Computed(ConvNet):
    """Says that its first block is computed from the training images."""

    initialized_from_data: ClassVar[tuple[str, ...]] = ("block0*",)


def test_what_stays_frozen_must_have_been_taken_over_or_computed(donor, tiny_data, tmp_path):
    c = config(donor[0])
    c.optim.freeze = ("block0*",)
    (state,) = Trainer.from_config(validated(c)).initialize()
    np.testing.assert_array_equal(state.params["block0_conv0"]["kernel"], donor[1].params["block0_conv0"]["kernel"] + 1)

    wider = (BlockConfig(features=(12,), batch_norm=BatchNorm.CONV),)
    c.model.blocks = wider
    with pytest.raises(
        ConfigError, match=r"^config\.optim\.freeze: block0_conv0/kernel would stay random: .*\[3, 3, 3, 12\]; f"
    ):
        train(validated(c), tmp_path / "run")
    assert not (tmp_path / "run").exists()

    c.optim.freeze = ("dense*",)  # of which the bias fits and the kernel does not
    with pytest.raises(ConfigError, match=r"^config\.optim\.freeze: dense0/kernel would stay random"):
        train(validated(c), tmp_path / "run")

    c.model, c.optim.freeze = Computed(blocks=wider, dense=c.model.dense), ("block0*",)
    Trainer.from_config(validated(c)).initialize()


def test_pixels_of_another_normalisation_are_refused_and_the_donors_named(donor, tiny_data, tmp_path):
    c = config(donor[0])
    c.data.normalization = Normalization.UNIT
    with pytest.raises(UserError, match=r"^config\.data\.normalization: .*use --config\.data\.normalization=standardize$"):
        train(validated(c), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_each_network_standardises_by_its_own_images(donor, tiny_data):
    c = config(donor[0])
    c.data.folds, c.data.fold = 2, 1
    trainer = Trainer.from_config(validated(c))
    trainer.initialize()
    theirs = Preprocessing.read(donor[0] / "dataset.json")
    assert trainer.preprocessing.mean != theirs.mean
    images = np.asarray(trainer.train_set.images)
    np.testing.assert_allclose(trainer.preprocessing.normalize(images).mean((0, 1, 2)), 0, atol=1e-4)
