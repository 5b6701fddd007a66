import shutil
import threading

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest
from flax.training.early_stopping import EarlyStopping

from cifar_flax.config import CheckpointConfig
from cifar_flax.errors import RunFailed, UserError
from cifar_flax.evaluation.metrics import Metrics
from cifar_flax.training.checkpoints.files import saved_steps
from cifar_flax.training.checkpoints.manager import Checkpoints, digest
from cifar_flax.training.checkpoints.resume import restore_latest
from cifar_flax.training.progress import PlateauState, Progress
from cifar_flax.training.state import TrainState

SCORES = {4: 0.5, 8: 0.9, 12: 0.7, 16: 0.6}


def state(step):
    params = {"kernel": jax.random.normal(jax.random.key(step), (64, 64)), "bias": jnp.arange(3.0)}
    return TrainState(jnp.int32(step), jnp.uint32(3), params, {}, (jnp.int32(step), params), None, Metrics.empty())


def progress(epochs_done):
    return Progress(epochs_done, PlateauState(wait=1), EarlyStopping(patience=3))


def like():
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(0))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
        for step, top1 in SCORES.items():
            checkpoints.save(step, state(step), progress(step // 4), {"top1": top1})
        checkpoints.save(18, state(18), progress(4))
    return workdir


@pytest.fixture
def workdir(written, tmp_path):
    return shutil.copytree(written, tmp_path / "run")


def files_of(step, root):
    return sorted(path.relative_to(root) for path in (root / "checkpoints" / str(step)).rglob("*") if path.is_file())


def test_the_two_latest_and_the_best_are_kept(workdir):
    checkpoints = Checkpoints(workdir, CheckpointConfig(), read_only=True)
    assert checkpoints.steps() == [8, 16, 18]
    assert [checkpoints.find(which) for which in ("latest", "best", 16, "16")] == [18, 8, 16, 16]
    for which in ("7", "²", "١٦", "016", "9" * 5000, "-8", ""):
        with pytest.raises(UserError, match=r"no checkpoint '.*'; .*\[8, 16, 18\]"):
            checkpoints.find(which)


def test_what_is_restored_is_what_was_saved(workdir):
    with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
        for step, epochs in ((18, 4), (8, 2)):
            restored = checkpoints.restore(step, like())
            assert restored.progress == progress(epochs)
            assert digest(restored.state) == digest(state(step))


def test_best_is_the_latest_where_nothing_was_validated(tmp_path):
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        with pytest.raises(UserError, match="no checkpoint yet"):
            checkpoints.find("best")
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), progress(step))
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3]
        assert checkpoints.find("best") == 3


@pytest.fixture
def slow_disk(monkeypatch):
    """Writes none before the event is set."""
    proceed, write = threading.Event(), Checkpoints._write

    def wait(*args):
        assert proceed.wait(60)
        write(*args)

    monkeypatch.setattr(Checkpoints, "_write", wait)
    yield proceed
    proceed.set()


def test_training_waits_for_no_disk_and_what_is_written_is_the_state_of_then(tmp_path, slow_disk):
    step = jax.jit(lambda params: jax.tree.map(lambda x: 0 * x, params), donate_argnums=0)
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        for number in (1, 2):
            now = state(number)
            checkpoints.save(number, now, progress(number), {"top1": 0.5})
            jax.block_until_ready(step(now.params))
        assert now.params["kernel"].is_deleted()
        assert checkpoints.steps() == []
        slow_disk.set()
        checkpoints.wait()
        for number in (1, 2):
            assert digest(checkpoints.restore(number, like()).state) == digest(state(number))


def test_of_the_states_that_wait_only_the_latest_and_the_best_are_written(tmp_path, slow_disk, monkeypatch):
    written, write = [], Checkpoints._write
    monkeypatch.setattr(Checkpoints, "_write", lambda self, step, *rest: (write(self, step, *rest), written.append(step)))
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        for step, top1 in enumerate((0.5, 0.9, 0.6, 0.7, 0.8), start=1):
            checkpoints.save(step, state(step), progress(step), {"top1": top1})
        slow_disk.set()
        checkpoints.wait()
        assert set(written) - {1} == {2, 4, 5}  # the first may have been taken up before the others came
        assert (checkpoints.find("best"), checkpoints.find("latest")) == (2, 5)


def damage(path, how):
    content = path.read_bytes()
    if how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["flip", *(pytest.param(how, marks=pytest.mark.slow) for how in ("truncate", "remove"))])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before_or_is_exact(written, tmp_path, how, caplog):
    """Every file of the newest checkpoint in turn; some of Orbax's own hold nothing that a restore needs."""
    fell_back = 0
    for i, file in enumerate(files_of(18, written)):
        workdir = shutil.copytree(written, tmp_path / str(i))
        damage(workdir / file, how)
        caplog.clear()
        with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
            (restored,) = restore_latest([checkpoints], like())
            step = int(restored.state.step)
            assert digest(restored.state) == digest(state(step)), file
            if "is damaged" in caplog.text:
                assert "checkpoint 18" in caplog.text
                assert list((workdir / "damaged_checkpoints").iterdir())
            if step != 18:
                assert step == 16
                assert "falling back to checkpoint 16" in caplog.text
                checkpoints.save(18, state(18), progress(4))  # the step can be written again
                checkpoints.wait()
                assert checkpoints.steps()[-1] == 18
                fell_back += 1
    assert fell_back >= 2


def test_a_run_without_an_intact_checkpoint_is_left_as_it_is(workdir):
    for path in (workdir / "checkpoints").rglob("d/*"):
        damage(path, "truncate")
    with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
        with pytest.raises(UserError, match=r"no checkpoint in .* is intact; --restart"):
            restore_latest([checkpoints], like())
        assert checkpoints.steps() == [8, 16, 18]


def test_scores_that_cannot_be_read_cost_nothing_but_themselves(workdir, caplog):
    damage(workdir / "checkpoints" / "16" / "metrics" / "metrics", "truncate")
    with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
        assert "damaged scores" in caplog.text
        assert checkpoints.steps() == [8, 16, 18]
        assert checkpoints.find("best") == 8
        assert digest(checkpoints.restore(16, like()).state) == digest(state(16))


def replace(path, old, new):
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))


def test_another_digit_in_the_scores_does_not_choose_the_best(workdir, caplog):
    replace(workdir / "checkpoints" / "16" / "metrics" / "metrics", "0.6", "0.96")
    with pytest.raises(UserError, match=r"checkpoint 16 in .* has damaged scores"):
        Checkpoints(workdir, CheckpointConfig(), read_only=True)
    with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
        assert "checkpoint 16" in caplog.text
        assert checkpoints.find("best") == 8


def test_another_number_of_epochs_done_is_damage(workdir, caplog):
    replace(workdir / "checkpoints" / "18" / "info" / "info.json", '"epochs_done": 4', '"epochs_done": 5')
    with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
        assert restore_latest([checkpoints], like())[0].progress.epochs_done == 4
    assert "falling back to checkpoint 16" in caplog.text


def test_a_reader_is_told_of_damage(workdir):
    for path in (workdir / "checkpoints" / "8").rglob("d/*"):
        damage(path, "flip")
    with pytest.raises(UserError, match=r"checkpoint 8 in .* is damaged"):
        Checkpoints(workdir, CheckpointConfig(), read_only=True).restore(8, like())


def test_leftovers_of_a_killed_save_are_no_checkpoint(workdir, caplog):
    torn = workdir / "checkpoints" / "20.orbax-checkpoint-tmp"
    shutil.copytree(workdir / "checkpoints" / "16", torn)
    damage(torn / "metrics" / "metrics", "truncate")
    assert Checkpoints(workdir, CheckpointConfig(), read_only=True).steps() == [8, 16, 18]
    with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
        assert checkpoints.steps() == [8, 16, 18]
        checkpoints.save(20, state(20), progress(5))
    assert not torn.exists()
    assert "damaged" not in caplog.text


def test_a_failure_while_a_checkpoint_is_replaced_loses_neither(workdir, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", fail)
        checkpoints = Checkpoints(workdir, CheckpointConfig())
        checkpoints.save(18, state(18), progress(5))
        with pytest.raises(RunFailed, match="no space"):
            checkpoints.wait()
    with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
        assert checkpoints.steps() == [8, 16, 18]
        assert checkpoints.restore(18, like()).progress == progress(4)
        checkpoints.save(18, state(18), progress(5), {"top1": 0.65})
        checkpoints.wait()
        assert not (workdir / "replaced_checkpoints").exists()
        assert checkpoints.restore(18, like()).progress == progress(5)
        assert (checkpoints.steps(), checkpoints.scores(18)) == ([8, 16, 18], {"top1": 0.65})


def test_of_too_many_open_files_the_line_says_how_more_are_allowed(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("Error opening local file \"x\": Too many open files [os_error_code='24']")

    monkeypatch.setattr(ocp.CheckpointManager, "save", fail)
    checkpoints = Checkpoints(tmp_path, CheckpointConfig())
    checkpoints.save(4, state(4), progress(1))
    with pytest.raises(
        RunFailed, match=r"open files .*; raise the hard limit on open files \(.*\) and run the same command to go on$"
    ):
        checkpoints.wait()


def test_the_only_checkpoint_is_one_while_it_is_replaced(tmp_path):
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        checkpoints.save(4, state(4), progress(0))
    (tmp_path / "replaced_checkpoints").mkdir()
    (tmp_path / "checkpoints" / "4").rename(tmp_path / "replaced_checkpoints" / "4")
    assert saved_steps(tmp_path) == [4]
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        assert restore_latest([checkpoints], like())[0].progress == progress(0)
