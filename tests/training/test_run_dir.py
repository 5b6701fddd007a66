import errno
import fcntl
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_flax.config import Dtype
from cifar_flax.config.serialize import read_config, validated
from cifar_flax.data import cache
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.sources.folders import FolderSource
from cifar_flax.errors import UserError, WorkdirLocked
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from cifar_flax.runtime import app
from cifar_flax.training import run_dir
from cifar_flax.training.run_dir import in_use, move_aside, open_run_dir
from cifar_flax.training.seed_folders import SUMMARY
from cifar_flax.training.trainer import Trainer
from tests.helpers.picture_folders import fill, save
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
    trained(tmp_path / "run", config, preprocessing)
    other = replace(preprocessing, hashes=dict.fromkeys(preprocessing.hashes, "another"))
    with pytest.raises(UserError, match="is not what it was") as refusal:
        open_run_dir(tmp_path / "run", config, other)
    assert not in_use(tmp_path / "run")
    assert refusal.traceback  # whose frames hold on to the lock


def test_recorded_hashes_are_of_the_pictures_trained_on_while_others_are_added(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path / "cache"))
    fill(tmp_path / "pets" / "train", {"cat": 30, "dog": 30})
    version, looks = FolderSource.version, []

    def version_before_one_is_added(source):
        looks.append(version(source))
        save(tmp_path / "pets" / "train" / "cat" / f"new{len(looks)}.png")
        return looks[-1]

    monkeypatch.setattr(FolderSource, "version", version_before_one_is_added)
    tiny_config.data.name, tiny_config.data.image_size = f"folder:{tmp_path / 'pets'}", 8
    trainer = Trainer.from_config(validated(tiny_config))
    labels = np.sort(np.concatenate([trainer.train_set.labels, trainer.validation_set.labels]))  # the order of a folder
    assert trainer.preprocessing.hashes["labels"] == cache.hash_of(labels)


def test_an_exported_network_is_not_taken_for_a_damaged_run(tiny_config, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "cifar_flax"}')  # as transformers would read it
    (tmp_path / "model.safetensors").write_bytes(b"")
    for call in (lambda: open_run_dir(tmp_path, validated(tiny_config), PREPROCESSING), lambda: move_aside(tmp_path)):
        with pytest.raises(UserError, match=r"holds an exported network, not a run; choose another --workdir$"):
            call()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_nothing_is_left_in_the_folder_of_another_program(tiny_config, tmp_path):
    (tmp_path / "config.json").write_text('{"name": "my experiment"}')
    with pytest.raises(UserError, match=r"config\.json"):
        open_run_dir(tmp_path, validated(tiny_config), PREPROCESSING)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_run_goes_on_with_its_recorded_test_images_and_not_with_renamed_classes(tiny_data, tiny_config, tmp_path):
    config = validated(tiny_config)
    preprocessing = Trainer.from_config(config).preprocessing
    assert preprocessing.test_hashes
    trained(tmp_path / "run", config, preprocessing)
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


def test_a_run_whose_last_epoch_is_cut_off_takes_no_further_epochs(tiny_data, tiny_config, tmp_path):
    tiny_config.train.epochs = 1.5
    config = validated(tiny_config)
    preprocessing = Trainer.from_config(config).preprocessing
    trained(tmp_path / "run", config, preprocessing)
    longer = replace(config, train=replace(config.train, epochs=3))
    with pytest.raises(UserError, match=r"config\.train\.epochs: 1\.5 there, 3 now(\n.*)+--config\.train\.init_from="):
        open_run_dir(tmp_path / "run", longer, preprocessing)


def test_going_on_on_another_backend_is_said(tiny_data, tiny_config, tmp_path, monkeypatch, caplog):
    config = validated(tiny_config)
    preprocessing = Trainer.from_config(config).preprocessing
    for backend in ("gpu", "gpu", "cpu", "cpu"):
        monkeypatch.setattr("cifar_flax.training.run_environment.jax.default_backend", lambda backend=backend: backend)
        open_run_dir(tmp_path / "run", config, preprocessing).close()
    (message,) = caplog.messages
    assert "trained on gpu until now, and goes on on cpu" in message
    assert [e["backend"] for e in read_checksummed(tmp_path / "run" / "environment.json")["earlier"]] == ["gpu", "gpu", "cpu"]


@pytest.mark.parametrize(("begun", "later"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_a_run_keeps_the_dtype_that_was_the_fastest_where_it_began(tiny_config, tmp_path, monkeypatch, caplog, begun, later):
    tiny_config.train.dtype = Dtype.AUTO
    config, workdir = validated(tiny_config), tmp_path / "run"
    monkeypatch.setattr(run_dir, "fastest_dtype", lambda: Dtype(begun))
    first = run_dir.with_recorded_dtype(config, workdir, restart=False)
    assert first.train.dtype == begun
    trained(workdir, first)

    monkeypatch.setattr(run_dir, "fastest_dtype", lambda: Dtype(later))
    assert run_dir.with_recorded_dtype(config, workdir, restart=False) == first
    slow = [f"{workdir}: in bfloat16, as it or another seed began; this machine would be faster in float32"]
    assert caplog.messages == (slow if begun == "bfloat16" else [])
    assert run_dir.with_recorded_dtype(config, workdir, restart=True).train.dtype == later
    named = replace(config, train=replace(config.train, dtype=Dtype(later)))
    assert run_dir.with_recorded_dtype(named, workdir, restart=False) == named
    with pytest.raises(UserError, match=rf"config\.train\.dtype: '{begun}' there, '{later}' now"):
        open_run_dir(workdir, named, PREPROCESSING)


def test_a_run_behind_a_link_is_begun_again_behind_the_same_link(tiny_config, tmp_path, monkeypatch):
    config, link = validated(tiny_config), tmp_path / "latest"
    open_run_dir(tmp_path / "scratch" / "run", config, PREPROCESSING).close()
    (tmp_path / "scratch" / "run" / "metrics.jsonl").write_text("old")
    link.symlink_to("scratch/run")
    move_aside(link)
    open_run_dir(link, config, PREPROCESSING).close()
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
        move_aside(Path(workdir))
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
    assert ("raise the hard limit on open files" in line) == (code == errno.EMFILE)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of_and_used(tiny_config, tmp_path, monkeypatch, caplog, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    open_run_dir(tmp_path / "run", validated(tiny_config), PREPROCESSING).close()
    assert "has no locks" in caplog.text
    assert not in_use(tmp_path / "run")


def trained(workdir, config, preprocessing=PREPROCESSING):
    """A run with a checkpoint."""
    open_run_dir(workdir, config, preprocessing).close()
    (workdir / "checkpoints" / "9").mkdir(parents=True)


def begun(workdir, config):
    """A run with a checkpoint, whose config.json was damaged and then removed."""
    trained(workdir, config)
    (workdir / "config.json").unlink()


def with_rate(config, learning_rate):
    return replace(config, optim=replace(config.optim, learning_rate=learning_rate))


def test_restart_moves_checkpoints_aside_whose_config_json_is_gone(tiny_config, tmp_path):
    config = validated(tiny_config)
    begun(tmp_path / "run", config)
    other = with_rate(config, 0.5)
    move_aside(tmp_path / "run")
    open_run_dir(tmp_path / "run", other, PREPROCESSING).close()
    assert (tmp_path / "run.1" / "checkpoints" / "9").is_dir()
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert read_config(tmp_path / "run" / "config.json") == other


def test_a_removed_config_json_is_written_again_only_by_the_command_that_trains(tiny_config, tmp_path):
    config = validated(tiny_config)
    begun(tmp_path / "run", config)
    with pytest.raises(UserError, match=r"config\.optim\.learning_rate: 0\.001 there, 0\.5 now"):
        open_run_dir(tmp_path / "run", with_rate(config, 0.5), PREPROCESSING)
    assert not (tmp_path / "run" / "config.json").exists()
    for epochs in (2, 5):  # which may differ
        (tmp_path / "run" / "config.json").unlink(missing_ok=True)
        longer = replace(config, train=replace(config.train, epochs=epochs))
        open_run_dir(tmp_path / "run", longer, PREPROCESSING).close()
        assert read_config(tmp_path / "run" / "config.json") == longer


def test_a_seed_begins_in_the_dtype_of_those_that_have_trained(tiny_config, tmp_path, monkeypatch):
    tiny_config.train.dtype = Dtype.AUTO
    config, (begun, next_seed) = validated(tiny_config), [tmp_path / "seed0", tmp_path / "seed1"]
    trained(begun, replace(config, train=replace(config.train, dtype=Dtype.BFLOAT16)))
    monkeypatch.setattr(run_dir, "fastest_dtype", lambda: Dtype.FLOAT32)
    for workdir in (begun, next_seed):
        actual = run_dir.with_recorded_dtype(config, workdir, restart=False, siblings=(begun, next_seed))
        assert actual.train.dtype is Dtype.BFLOAT16
    restarted = run_dir.with_recorded_dtype(config, next_seed, restart=True, siblings=(begun, next_seed))
    assert restarted.train.dtype is Dtype.FLOAT32


@pytest.mark.parametrize("content", [None, "{", {}, {"config": None}, {"config": {"seed": "x"}}])
def test_checkpoints_of_a_config_that_nothing_names_are_refused(tiny_config, tmp_path, content):
    config, environment = validated(tiny_config), tmp_path / "run" / "environment.json"
    begun(tmp_path / "run", config)
    environment.unlink()
    if content is not None:
        environment.write_text(content if isinstance(content, str) else dumps_checksummed(content))
    config.train.dtype = Dtype.AUTO
    for go_on in (
        lambda: open_run_dir(tmp_path / "run", config, PREPROCESSING),
        lambda: run_dir.with_recorded_dtype(config, tmp_path / "run", restart=False),
    ):
        with pytest.raises(UserError, match=r"config\.json is missing, .*; put config\.json back, .* or --restart") as refusal:
            go_on()
        assert "\n" not in str(refusal.value)


def test_a_run_keeps_its_dtype_without_its_config_json(tiny_config, tmp_path, monkeypatch):
    tiny_config.train.dtype = Dtype.AUTO
    config = validated(tiny_config)
    begun(tmp_path / "run", replace(config, train=replace(config.train, dtype=Dtype.BFLOAT16)))
    monkeypatch.setattr(run_dir, "fastest_dtype", lambda: Dtype.FLOAT32)
    assert run_dir.with_recorded_dtype(config, tmp_path / "run", restart=False).train.dtype is Dtype.BFLOAT16


def test_a_whole_number_of_epochs_but_for_rounding_may_become_more(tiny_config, tmp_path):
    tiny_config.train.epochs = 0.1 * 3 * 10
    config = validated(tiny_config)
    trained(tmp_path / "run", config)
    open_run_dir(tmp_path / "run", replace(config, train=replace(config.train, epochs=5)), PREPROCESSING).close()
    assert read_config(tmp_path / "run" / "config.json").train.epochs == 5


def test_a_run_does_not_become_shorter_than_it_is(tiny_config, tmp_path):
    tiny_config.train.epochs = 5
    config = validated(tiny_config)
    trained(tmp_path / "run", config)
    (tmp_path / "run" / "checkpoints" / "34").mkdir(parents=True)
    open_run_dir(tmp_path / "run", replace(config, train=replace(config.train, epochs=4)), PREPROCESSING, 36).close()
    expected = r"^config\.train\.epochs: 3\.5 are 32 updates, and \S+ has made 34; choose another --workdir, or"
    with pytest.raises(UserError, match=expected):
        open_run_dir(tmp_path / "run", replace(config, train=replace(config.train, epochs=3.5)), PREPROCESSING, 32)
    assert read_config(tmp_path / "run" / "config.json").train.epochs == 4


def test_a_schedule_that_ends_with_its_epochs_is_told_how_to_train_on(tiny_config, tmp_path):
    tiny_config.optim.schedule = "cosine"
    config = validated(tiny_config)
    trained(tmp_path / "run", config)
    longer = replace(config, train=replace(config.train, epochs=9))
    with pytest.raises(UserError, match=r"epochs: 2 there, 9 now\n  to train on .*: --config.train.init_from=\S+ with"):
        open_run_dir(tmp_path / "run", longer, PREPROCESSING)
    other = replace(longer, seed=3)
    with pytest.raises(UserError) as refusal:
        open_run_dir(tmp_path / "run", other, PREPROCESSING)
    assert "init_from" not in str(refusal.value)


def test_a_run_and_the_seeds_of_another_are_not_mixed_in_one_folder(tiny_config, tmp_path):
    config, workdir = validated(tiny_config), tmp_path / "run"
    begun(workdir, config)
    with pytest.raises(UserError, match=r"run holds a run, and cannot hold those of several seeds too; .*--restart"):
        open_run_dir(workdir / "seed0", config, PREPROCESSING)
    assert not (workdir / "seed0").exists()
    for seed in ("seed0", "seed1"):  # the second finds what the first has left
        move_aside(workdir / seed)
        open_run_dir(workdir / seed, config, PREPROCESSING).close()
    assert sorted(path.name for path in workdir.iterdir()) == ["seed0", "seed1"]
    assert (tmp_path / "run.1" / "checkpoints" / "9").is_dir()

    with pytest.raises(UserError, match=r"run holds a run for each of several seeds, and cannot hold .*--restart"):
        open_run_dir(workdir, config, PREPROCESSING)
    with open_run_dir(workdir / "seed1", config, PREPROCESSING), pytest.raises(WorkdirLocked, match=r"training in .*seed1;"):
        move_aside(workdir)
    move_aside(workdir)
    open_run_dir(workdir, config, PREPROCESSING).close()
    assert not (workdir / "seed0").exists()
    assert (tmp_path / "run.2" / "seed1" / "config.json").exists()


def test_the_scores_of_seeds_that_are_moved_aside_do_not_choose_among_the_new_ones(tiny_config, tmp_path):
    trained(tmp_path / "seed0", validated(tiny_config))
    (tmp_path / SUMMARY).write_text('{"score": "validation top-1", "seeds": {"seed0": 0.5}}')
    move_aside(tmp_path / "seed1")
    assert (tmp_path / SUMMARY).exists()  # nothing was moved
    move_aside(tmp_path / "seed0")
    assert not (tmp_path / SUMMARY).exists()
