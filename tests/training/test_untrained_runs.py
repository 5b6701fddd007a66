from dataclasses import replace

import pytest

from cifar_flax.config import Dtype
from cifar_flax.config.serialize import read_config, validated
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError, WorkdirLocked
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.training import run_dir
from cifar_flax.training.run_dir import open_run_dir
from tests.training.test_run_dir import with_rate
from tests.training.test_strange_runs import PREPROCESSING


def test_a_run_that_ended_before_it_trained_leaves_its_folder_to_another_config(tiny_config, tmp_path, monkeypatch):
    config, run = validated(tiny_config), tmp_path / "run"
    config.train.dtype = Dtype.FLOAT32
    open_run_dir(run, config, PREPROCESSING).close()
    (run / "teacher.json").write_text("{}")
    (run / "trackers").mkdir()
    (run / "metrics.jsonl").write_text('{"kind": "step", "step": 1, "epoch": 1}\n')
    open_run_dir(run, config, PREPROCESSING).close()
    assert len(read_checksummed(run / "environment.json")["earlier"]) == 1
    assert (run / "trackers").exists()  # which the same command goes on with

    other, data = with_rate(config, 0.5), replace(PREPROCESSING, class_names=("zebra", *PREPROCESSING.class_names[1:]))
    with open_run_dir(run, config, PREPROCESSING), pytest.raises(WorkdirLocked):
        open_run_dir(run, other, data)  # the other process may yet train
    assert read_config(run / "config.json") == config
    open_run_dir(run, other, data).close()
    assert read_config(run / "config.json") == other
    assert Preprocessing.read(run / "dataset.json").class_names == data.class_names
    assert read_checksummed(run / "environment.json")["earlier"] == []
    assert not (run / "teacher.json").exists()
    assert not (run / "trackers").exists()
    monkeypatch.setattr(run_dir, "fastest_dtype", lambda: Dtype.BFLOAT16)
    automatic = replace(config, train=replace(config.train, dtype=Dtype.AUTO))
    assert run_dir.with_recorded_dtype(automatic, run, restart=False).train.dtype is Dtype.BFLOAT16


@pytest.mark.parametrize("left", ["metrics.jsonl", "damaged_checkpoints"])
def test_a_run_that_lost_its_checkpoints_keeps_its_folder(tiny_config, tmp_path, left):
    config, run = validated(tiny_config), tmp_path / "run"
    open_run_dir(run, config, PREPROCESSING).close()
    if left == "metrics.jsonl":
        (run / left).write_text('{"kind": "epoch", "step": 9, "epoch": 1, "elapsed": 1.0}\n')
    else:
        (run / left).mkdir()
    with pytest.raises(UserError, match=r"config\.optim\.learning_rate: 0\.001 there, 0\.5 now"):
        open_run_dir(run, with_rate(config, 0.5), PREPROCESSING)
