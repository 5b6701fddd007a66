import os
import subprocess

import pytest

from cifar_flax.config import CheckpointConfig
from cifar_flax.errors import RunFailed, UserError
from cifar_flax.run import Run
from cifar_flax.training.checkpoints.manager import Checkpoints
from cifar_flax.training.checkpoints.path import LiteralPath
from cifar_flax.training.checkpoints.resume import restore_latest
from cifar_flax.training.loop import train
from cifar_flax.training.seeds import train_seeds
from tests.training.checkpoints.test_manager import like, progress, state

REFUSED = {"a\\b": "holds a backslash", os.fsdecode(b"\xff"): "is not UTF-8", "gs:/b": "looks like an address"}


@pytest.mark.parametrize("name", ["[x]", "[!a]*", "**", "a?b#c%20", " {a,b}", "a\nb", "ocdbt.process_0"])
def test_checkpoints_are_read_from_under_any_path(tmp_path, name):
    workdir = tmp_path / name / "run"
    with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
        checkpoints.save(4, state(4), progress(1), {"top1": 0.5})
        checkpoints.save(8, state(8), progress(2), {"top1": 0.4})
    assert int(restore_latest([Checkpoints(workdir, CheckpointConfig())], like())[0].state.step) == 8
    assert Checkpoints(workdir, CheckpointConfig(), read_only=True).find("best") == 4


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("command", [train, train_seeds])
def test_paths_under_which_none_can_be_kept_are_refused_before_training(tmp_path, tiny_config, name, command):
    with pytest.raises(UserError, match=REFUSED[name]):
        command(tiny_config, tmp_path / name / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_moved_below_such_a_path_is_refused_and_not_taken_for_damaged(tiny_run, tmp_path):
    moved = tmp_path / "a\\b"
    subprocess.run(["cp", "-r", tiny_run, moved], check=True)
    with pytest.raises(UserError, match="holds a backslash"):
        Run.open(moved).network()


def test_a_first_checkpoint_that_cannot_be_read_back_ends_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(LiteralPath, "glob", lambda *_: iter(()))  # Orbax says nothing where it finds nothing to merge
    checkpoints = Checkpoints(tmp_path, CheckpointConfig())
    checkpoints.save(4, state(4), progress(1))
    with pytest.raises(RunFailed, match="cannot write a checkpoint"):
        checkpoints.wait()
    assert Checkpoints(tmp_path, CheckpointConfig()).steps() == []
