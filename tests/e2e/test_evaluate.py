import shutil

import pytest

from cifar_flax.files.checksum import read_checksummed
from cifar_flax.run import load_network


def test_averaged_and_raw_weights_are_both_scored(launch, tiny_run, tiny_data, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    raw = load_network(run, ema=False).evaluate("test")
    done = launch("evaluate", f"--run={run}", "--noreport")
    assert f"raw weights, not averaged: top-1 {raw['top1']:.2%}" in done.stdout, done.stderr
    scores = read_checksummed(run / "report" / "test.json")
    assert scores["ema"] is True
    assert scores["loss"] == pytest.approx(load_network(run).evaluate("test")["loss"])
    assert scores["raw_weights"]["loss"] == pytest.approx(raw["loss"])
    assert launch("evaluate", f"--run={run}", "--noreport", "--weights=raw").returncode == 0
    scores = read_checksummed(run / "report" / "test.json")
    assert (scores["ema"], scores["loss"]) == (False, pytest.approx(raw["loss"]))
    assert "raw_weights" not in scores
