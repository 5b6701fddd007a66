import pytest

from cifar_flax import Run
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import validated
from tests.conftest import TINY_CONFIG


def train_tiny(workdir, **settings):
    """Trains tests/e2e/tiny.py for one epoch with other settings, such as optim_ema_decay=None; returns `workdir`."""
    from cifar_flax.training.loop import train

    config = load_config(str(TINY_CONFIG))
    config.train.epochs = 1
    for path, value in settings.items():
        section, _, field = path.partition("_")
        if field:
            setattr(getattr(config, section), field, value)
        else:
            setattr(config, section, value)
    train(validated(config), workdir)
    return workdir


@pytest.fixture(scope="package")
def tiny_workdir(tiny_cache, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        return train_tiny(tmp_path_factory.mktemp("analysis") / "tiny")


@pytest.fixture
def run(tiny_workdir, tiny_data):
    """A run of one epoch, shared by tests: copy its folder before changing files."""
    return Run.open(tiny_workdir)
