import json
import math
import sqlite3
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from cifar_flax.config import Config
from cifar_flax.config.serialize import write_config
from cifar_flax.search.objective import Search, run_trials
from cifar_flax.search.space import IntRange, Space
from cifar_flax.search.study import Study

SPACE = Space(Path("space.py"), {"augment.cutout": IntRange(0, 9)}, None)


@event.listens_for(Engine, "connect")
def without_waiting_for_the_disk(connection, _):
    """A search commits some eighty times a trial, and no test here cuts the power."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


class Trainings:
    """Stands in for `train`: makes run directories whose validation top-1 is `score(config, epoch)`."""

    def __init__(self):
        self.epochs = []  # (varied value, fold, epoch) in the order in which they are trained
        self.score = lambda config, epoch: 0.5
        self.hashes = {"images": "0"}
        self.max_minutes = []  # that each was given
        self.summarized = []  # run directories
        self.stops_after = math.inf  # epochs, early

    def train(self, config, workdir, after_epoch, check_data, max_minutes):
        check_data(self.hashes)
        self.max_minutes.append(max_minutes)
        file = workdir / "metrics.jsonl"
        done = len(file.read_text().splitlines()) if file.exists() else 0
        write_config(config, workdir / "config.json")
        print("the progress of the training")
        last = min(int(config.train.epochs), self.stops_after)
        for epoch in range(done + 1, last + 1):
            self.epochs.append((config.augment.cutout, config.data.fold, epoch))
            top1 = self.score(config, epoch)
            with file.open("a") as records:
                record = {"kind": "epoch", "step": epoch, "epoch": epoch, "validation_top1": top1, "elapsed": 1.0}
                records.write(json.dumps(record) + "\n")
            if after_epoch is not None:
                after_epoch(epoch, {"top1": top1}, epoch == last)


def run_search(folder, trainings, trials=4, folds=None, epochs=3, workdir=None, space=SPACE, max_minutes=None, **options):
    """Runs a search: a grid over `augment.cutout`, 0 to 9, or another space. Returns the search and its study."""
    base = Config()
    base.train.epochs = epochs
    search = Search(base, space, workdir or folder, folds, trainings.train, trainings.summarized.append)
    study = Study(f"sqlite:///{folder}/study.db", "s", space, "grid", trials, **options)
    run_trials(search, study, max_minutes=max_minutes)
    return search, study


@pytest.fixture
def trainings():
    return Trainings()


@pytest.fixture
def start(tmp_path, trainings):
    return partial(run_search, tmp_path, trainings)
