from dataclasses import replace

import pytest

from cifar_flax.config.serialize import validated
from cifar_flax.errors import UserError, WorkdirLocked
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.training.run_dir import in_use, open_run_dir
from cifar_flax.training.trainer import Trainer


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
    (message,) = caplog.messages
    assert "trained on gpu until now, and goes on on cpu" in message
    assert [e["backend"] for e in read_checksummed(tmp_path / "run" / "environment.json")["earlier"]] == ["gpu", "gpu", "cpu"]
