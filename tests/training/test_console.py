import json

import pytest

from cifar_flax.config import Config
from cifar_flax.training.console import Console
from cifar_flax.training.timing import StepTimer


@pytest.fixture
def config():
    c = Config()
    c.train.epochs = 24
    return c


def scores(top1):
    row = {"loss": 1.23456, "top1": top1}
    return {"train": {"loss": 3.21, "top1": 0.5}, "validation": row}


def test_the_best_epoch_so_far_is_marked_and_lines_fit_a_terminal(config, tmp_path, capsys):
    console = Console(config, tmp_path, 97, 0)
    console.start("the network", 1, 45_000, 5_000)
    for epoch, top1 in enumerate((0.2, 0.1, 0.3, 0.3, 0.25), 10):
        console.epoch(epoch, scores(top1), 190)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the network"
    assert [line.endswith("  best") for line in lines[3:]] == [True, False, True, True, False]
    assert lines[3] == "epoch 10/24  loss 3.21 (val 1.23)  top-1 50.0% (val 20.0%)  03:10  best"
    assert max(map(len, lines)) <= 80


def test_a_resumed_run_remembers_its_best(config, tmp_path, capsys):
    records = [
        {"kind": "epoch", "epoch": epoch, "step": epoch, "validation_top1": top1, "elapsed": 1.0}
        for epoch, top1 in ((1, 0.5), (2, 0.4))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    console = Console(config, tmp_path, 97, 2)
    console.start("the network", 1, 45_000, 5_000)
    console.epoch(3, scores(0.45), 1)
    console.epoch(4, scores(0.55), 1)
    console.finish(4, 4, False, StepTimer({}, lambda: 0.0))
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("  best") for line in lines[3:5]] == [False, True]


def test_a_run_without_validation_marks_none(config, tmp_path, capsys):
    console = Console(config, tmp_path, 97, 0)
    console.start("the network", 1, 50_000, 0)
    console.epoch(1, {"train": {"loss": 3.21, "top1": 0.5}}, 3800)
    assert capsys.readouterr().out.splitlines()[-1] == "epoch 1/24  loss 3.21  top-1 50.0%  1:03:20"
