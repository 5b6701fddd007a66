import json
from pathlib import Path

import pytest

from cifar_flax.config import Config
from cifar_flax.config.serialize import write_config
from cifar_flax.files.checksum import with_checksum
from cifar_flax.search import loop
from cifar_flax.search.loop import Search, run_trials
from cifar_flax.search.space import IntRange, Space
from cifar_flax.search.study import Study


class Trainings:
    """Takes the place of `train`: makes run directories whose validation top-1 is `score(config, epoch)`."""

    def __init__(self):
        self.epochs = []  # (what is varied, fold, epoch), as they are trained
        self.score = lambda config, epoch: 0.5

    def train(self, config, workdir, restart=False, after_epoch=None):
        file = workdir / "metrics.jsonl"
        done = len(file.read_text().splitlines()) if file.exists() else 0
        write_config(config, workdir / "config.json")
        print("the progress of the training")
        for epoch in range(done + 1, config.train.epochs + 1):
            self.epochs.append((config.augment.cutout, config.data.fold, epoch))
            top1 = self.score(config, epoch)
            with file.open("a") as records:
                record = with_checksum({"kind": "epoch", "step": epoch, "epoch": epoch, "validation_top1": top1})
                records.write(json.dumps(record) + "\n")
            if after_epoch is not None:
                after_epoch(epoch, {"top1": top1})


@pytest.fixture
def trainings(monkeypatch):
    made = Trainings()
    monkeypatch.setattr(loop, "train", made.train)
    return made


@pytest.fixture
def start(tmp_path, trainings):
    """Runs the command: a grid over `augment.cutout`, 0 to 9. Returns what was searched and the study."""

    def run(trials=4, folds=None, epochs=3, workdir=tmp_path, **options):
        base = Config()
        base.train.epochs = epochs
        search = Search(base, Space(Path("space.py"), {"augment.cutout": IntRange(0, 9)}, None), workdir, folds)
        study = Study(f"sqlite:///{tmp_path}/study.db", "s", search.space, "grid", trials, **options)
        run_trials(search, study, after_trial=lambda: None)
        return search, study

    return run
