import json

import pytest

from tests.conftest import TINY_CONFIG

pytestmark = pytest.mark.slow


def test_three_seeds_from_one_command_make_one_report(launch, tmp_path):
    result = launch("train", f"--config={TINY_CONFIG}", "--config.train.num_seeds=3", "--workdir=seeds")
    assert result.returncode == 0, result.stderr
    assert "validation top-1 over 3 seeds: mean" in result.stdout
    assert all((tmp_path / "seeds" / f"seed{seed}" / "tensorboard").is_dir() for seed in range(3))

    result = launch("evaluate", "--run=seeds")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "seeds" / "report" / "test.json").read_text())
    assert list(report["seeds"]) == ["seed0", "seed1", "seed2"]
    assert (tmp_path / "seeds" / "report" / "test.html").is_file()
    for name, scores in report["seeds"].items():
        own = json.loads((tmp_path / "seeds" / name / "report" / "test.json").read_text())
        assert {key: own[key] for key in scores} == scores
        assert "raw_weights" in own
    assert launch("list", "seeds").stdout.count("%") == 6  # validation and test of each
    assert "config.seed = " in launch("show", "seeds").stdout
    result = launch("evaluate", "--run=seeds", "--output=elsewhere", "--noreport")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "elsewhere" / "seed2" / "test.json").read_text()) == own
    result = launch("evaluate", "--run=seeds", "--tta=flip")
    assert result.returncode == 2
    assert "give one of the folders in it" in result.stderr


def test_seeds_that_were_cut_short_resume(launch, tmp_path):
    command = ("train", f"--config={TINY_CONFIG}", "--config.train.num_seeds=2", "--workdir=seeds")
    result = launch(*command, "--max_minutes=0")
    assert result.returncode == 75
    assert "run the same command to go on" in result.stderr
    assert not (tmp_path / "seeds" / "seeds.json").exists()
    assert launch("evaluate", "--run=seeds").returncode == 2
    assert launch(*command).returncode == 0
    assert len(json.loads((tmp_path / "seeds" / "seeds.json").read_text())["seeds"]) == 2
