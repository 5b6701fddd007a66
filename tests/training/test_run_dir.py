from dataclasses import replace

import pytest
from PIL import Image

from cifar_flax.config.serialize import read_config, validated
from cifar_flax.data.preprocessing import Preprocessing
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


def test_a_run_goes_on_with_the_test_images_that_it_recorded_and_not_with_renamed_classes(tiny_data, tiny_config, tmp_path):
    config = validated(tiny_config)
    preprocessing = Trainer.from_config(config).preprocessing
    assert preprocessing.test_hashes
    open_run_dir(tmp_path / "run", config, preprocessing).close()
    open_run_dir(tmp_path / "run", config, replace(preprocessing, test_hashes={"images": "other"})).close()
    assert Preprocessing.read(tmp_path / "run" / "dataset.json").test_hashes == preprocessing.test_hashes
    renamed = replace(preprocessing, class_names=("zebra", *preprocessing.class_names[1:]))
    with pytest.raises(UserError, match="is not what it was"):
        open_run_dir(tmp_path / "run", config, renamed)


def test_the_path_of_a_folder_is_kept_absolute_and_may_change(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    for k in range(64):
        path = tmp_path / "pets" / "train" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, 0, 0)).save(path)
    monkeypatch.chdir(tmp_path)
    config = validated(tiny_config)
    config.data.name, config.data.image_size = "folder:./pets", 8
    trainer = Trainer.from_config(config)
    assert trainer.config.data.name == trainer.preprocessing.source == f"folder:{tmp_path}/pets"
    open_run_dir(tmp_path / "run", trainer.config, trainer.preprocessing).close()
    (tmp_path / "pets").rename(tmp_path / "moved")
    moved = replace(trainer.config, data=replace(config.data, name=f"folder:{tmp_path}/moved"))
    open_run_dir(tmp_path / "run", moved, Trainer.from_config(moved).preprocessing).close()
    assert read_config(tmp_path / "run" / "config.json").data.name == f"folder:{tmp_path}/moved"


def test_going_on_on_another_backend_is_said(tiny_data, tiny_config, tmp_path, monkeypatch, caplog):
    config = validated(tiny_config)
    preprocessing = Trainer.from_config(config).preprocessing
    for backend in ("gpu", "gpu", "cpu", "cpu"):
        monkeypatch.setattr("cifar_flax.training.environment.jax.default_backend", lambda backend=backend: backend)
        open_run_dir(tmp_path / "run", config, preprocessing).close()
    (message,) = caplog.messages
    assert "trained on gpu until now, and goes on on cpu" in message
    assert [e["backend"] for e in read_checksummed(tmp_path / "run" / "environment.json")["earlier"]] == ["gpu", "gpu", "cpu"]
