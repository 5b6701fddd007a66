"""Trainings as people start them: one seed, and several seeds in one program."""

from dataclasses import replace

import pytest

from cifar_flax.training.loop import train
from cifar_flax.training.seeds import seed_runs, train_seeds


class Training:
    """One of the ways to train; the same assertions hold for the run directories that each leaves."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder

    def __call__(self, config, **options):
        """Trains and returns the run directories."""
        if self.name == "one seed":
            train(config, self.folder / "run", **options)
            return [self.folder / "run"]
        config = replace(config, train=replace(config.train, num_seeds=2, vmap_seeds=True))
        train_seeds(config, self.folder / "seeds", **options)
        return [run.workdir for run in seed_runs(config, self.folder / "seeds")]


@pytest.fixture(params=["one seed", "vmapped seeds"])
def training(request, tmp_path):
    return Training(request.param, tmp_path)
