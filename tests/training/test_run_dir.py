import errno
import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_flax.config.serialize import validated
from cifar_flax.errors import UserError, WorkdirLocked
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.runtime import app
from cifar_flax.training.run_dir import in_use, open_run_dir
from cifar_flax.training.trainer import Trainer
from tests.training.test_strange_runs import PREPROCESSING


def test_a_folder_is_in_use_until_its_lock_is_closed(tiny_data, tiny_config, tmp_path):
    config = validated(tiny_config)
    preprocessing = Trainer.from_config(config).preprocessing
    with open_run_dir(tmp_path / "run", config, preprocessing):
        assert in_use(tmp_path / "run")
        with pytest.raises(WorkdirLocked, match="another process is training in"):
            open_run_dir(tmp_path / "run", config, preprocessing)
    assert not in_use(tmp_path / "run")


def test_a_folder_that_was_refused_is_free_while_the_error_is_looked_at(tiny_data, tiny_config, tmp_path):
    config = validated(tiny_config)
    preprocessing = Trainer.from_config(config).preprocessing
    open_run_dir(tmp_path / "run", config, preprocessing).close()
    other = replace(preprocessing, hashes=dict.fromkeys(preprocessing.hashes, "another"))
    with pytest.raises(UserError, match="is not what it was") as refusal:
        open_run_dir(tmp_path / "run", config, other)
    assert not in_use(tmp_path / "run")
    assert refusal.traceback  # whose frames hold on to the lock


def test_going_on_on_another_backend_is_said(tiny_data, tiny_config, tmp_path, monkeypatch, caplog):
    config = validated(tiny_config)
    preprocessing = Trainer.from_config(config).preprocessing
    for backend in ("gpu", "gpu", "cpu", "cpu"):
        monkeypatch.setattr("cifar_flax.training.environment.jax.default_backend", lambda backend=backend: backend)
        open_run_dir(tmp_path / "run", config, preprocessing).close()
    (said,) = caplog.messages
    assert "trained on gpu until now, and goes on on cpu" in said
    assert [e["backend"] for e in read_checksummed(tmp_path / "run" / "environment.json")["earlier"]] == ["gpu", "gpu", "cpu"]


def test_a_run_behind_a_link_is_begun_again_behind_the_same_link(tiny_config, tmp_path, monkeypatch):
    config, link = validated(tiny_config), tmp_path / "latest"
    open_run_dir(tmp_path / "scratch" / "run", config, PREPROCESSING).close()
    (tmp_path / "scratch" / "run" / "metrics.jsonl").write_text("old")
    link.symlink_to("scratch/run")
    open_run_dir(link, config, PREPROCESSING, restart=True).close()
    assert link.is_symlink()
    assert not (link / "metrics.jsonl").exists()
    assert (tmp_path / "scratch" / "run.1" / "metrics.jsonl").read_text() == "old"


@pytest.mark.parametrize("workdir", [".", "../run", "sub/.."])
def test_the_folder_that_one_is_in_is_not_renamed(tiny_config, tmp_path, monkeypatch, workdir):
    config = validated(tiny_config)
    open_run_dir(tmp_path / "run", config, PREPROCESSING).close()
    (tmp_path / "run" / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    with pytest.raises(UserError, match="is the folder that you are in"):
        open_run_dir(Path(workdir), config, PREPROCESSING, restart=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    open_run_dir(Path(workdir), config, PREPROCESSING).close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EBUSY, errno.ENOTCONN, errno.EMFILE, errno.EXDEV, errno.EROFS])
def test_a_rename_that_fails_costs_a_line(tiny_config, tmp_path, monkeypatch, capsys, code):
    def fail(source, target):
        raise OSError(code, os.strerror(code), source, None, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(SystemExit) as end:
        app.report(lambda: open_run_dir(tmp_path / "run", validated(tiny_config), PREPROCESSING))
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == (2 if code in (errno.EXDEV, errno.EROFS) else 1)
    assert f"{tmp_path}/run/config.json: " in line
    assert os.strerror(code) in line


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of_and_used(tiny_config, tmp_path, monkeypatch, caplog, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    open_run_dir(tmp_path / "run", validated(tiny_config), PREPROCESSING).close()
    assert "has no locks" in caplog.text
    assert not in_use(tmp_path / "run")
