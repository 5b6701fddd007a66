"""Writers of a user's own, as `config.log.writers = ("my_tracker:Tracker",)` names them: what is sent, once, whatever fails."""

import json
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from cifar_flax.config import Config
from cifar_flax.config.serialize import validated
from cifar_flax.errors import ConfigError, Diverged, Preempted, UserError
from cifar_flax.training import runs
from cifar_flax.training.loop import train
from cifar_flax.training.records import curves, read_records
from cifar_flax.training.seeds import train_seeds
from cifar_flax.training.writers import Session, check_writers, open_writers, sending

SPEED = "step/images_per_second"  # differs where steps are repeated
TRACKER = '''
"""Appends what it is given to a file beside the run."""
import json

FAIL_AT = None


class Tracker:
    def __init__(self, session):
        self.id = session.id or f"{session.group}/{session.name}"
        self.path = session.workdir.parent / f"{session.workdir.name}.sent"
        self.add(["open", session.id])

    def add(self, line):
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\\n")

    def scalars(self, step, values):
        if FAIL_AT is not None and step >= FAIL_AT:
            raise ConnectionError("https://me:secret@tracker is gone\\nand a long trace")
        for name, value in values.items():
            self.add([name, step, value])

    def picture(self, step, name, picture):
        self.add([name, step, picture.shape])

    def hyperparameters(self, step, values, scores):
        self.scalars(step, scores)

    def close(self):
        self.add(["close"])
'''


@pytest.fixture
def tracker(tmp_path, monkeypatch):
    """The user's module, in the working directory."""
    (tmp_path / "my_tracker.py").write_text(TRACKER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("my_tracker")
    del sys.modules["my_tracker"]


@pytest.fixture
def config(tiny_config, tracker):
    tiny_config.log.writers, tiny_config.log.pictures = ("my_tracker:Tracker",), True
    return validated(tiny_config)


def sent(run):
    return [json.loads(line) for line in run.with_name(f"{run.name}.sent").read_text().splitlines()]


def points(run):
    return [tuple(line) for line in sent(run) if len(line) == 3 and not isinstance(line[2], list) and line[0] != SPEED]


def recorded(run):
    return [(name, r["step"], value) for r in read_records(run) for name, value in curves(r).items() if name != SPEED]


def test_a_run_that_is_stopped_and_resumed_sends_each_point_of_metrics_jsonl_once(tmp_path, tiny_data, config):
    def stop(epoch, scores, over):
        raise Diverged("stopped")

    run = tmp_path / "folder" / "run"
    with pytest.raises(Diverged):
        train(config, run, after_epoch=stop)
    for checkpoint in (run / "checkpoints").iterdir():
        if checkpoint.name == "9":  # the end of the epoch: the run goes on from step 5, and repeats what it has sent
            checkpoint.rename(tmp_path / "9")
    train(config, run)
    assert sorted(points(run)) == sorted(recorded(run))
    assert [line for line in sent(run) if line[0] in ("open", "close")] == [
        ["open", ""],
        ["close"],
        ["open", "folder/run"],
        ["close"],
    ]
    assert [line[:2] for line in sent(run) if line[0] == "first layer"] == [["first layer", 9], ["first layer", 18]]


def test_a_tracker_that_fails_costs_one_warning_and_gets_the_rest_later(
    tmp_path, tiny_data, config, tracker, monkeypatch, caplog
):
    monkeypatch.setattr(tracker, "FAIL_AT", 7)
    train(config, tmp_path / "run")
    assert [r["step"] for r in read_records(tmp_path / "run") if r["kind"] == "step"] == list(range(1, 19))
    warnings = [record.message for record in caplog.records if "my_tracker" in record.message]
    assert len(warnings) == 1
    assert "ConnectionError: https://me:***@tracker is gone; training goes on" in warnings[0]
    assert max(step for _, step, _ in points(tmp_path / "run")) == 6
    monkeypatch.setattr(tracker, "FAIL_AT", None)
    train(config, tmp_path / "run")
    assert sorted(points(tmp_path / "run")) == sorted(recorded(tmp_path / "run"))


def test_a_slow_tracker_gets_the_rest_from_the_next_process_and_nothing_twice(tmp_path, config, tracker, monkeypatch, caplog):
    scalars, arrived = tracker.Tracker.scalars, threading.Event()
    monkeypatch.setattr(tracker.Tracker, "scalars", lambda *args: arrived.wait() and scalars(*args))
    monkeypatch.setattr(sending, "STATE_SECONDS", 0.1)
    for seconds, sent_by_then in ((0.1, 1), (600, 5)):
        monkeypatch.setattr(sending, "CLOSE_SECONDS", seconds)
        before = set(threading.enumerate())
        (writer,) = open_writers(Session(tmp_path, config, 0, 0))
        for step in range(1, 6):
            writer.scalars(step, {"step/loss": 0.5})
        writer.close()
        arrived.set()
        for thread in set(threading.enumerate()) - before:
            thread.join()
        assert points(tmp_path) == [("step/loss", step, 0.5) for step in range(1, sent_by_then + 1)]
    assert [record.message for record in caplog.records if "not all was sent" in record.message]


def test_a_run_that_is_told_to_stop_does_not_wait_long_for_its_trackers(
    tmp_path, tiny_data, config, tracker, monkeypatch, caplog
):
    gone = threading.Event()
    monkeypatch.setattr(tracker.Tracker, "scalars", lambda *args: gone.wait())
    monkeypatch.setattr(sending, "CLOSE_SECONDS", 1e4)
    monkeypatch.setattr(sending, "STATE_SECONDS", 0.1)
    monkeypatch.setattr(runs, "TRACKER_SECONDS", 0.1)
    with pytest.raises(Preempted, match="SIGTERM: saved at step 9"):
        train(config, tmp_path / "run", after_epoch=lambda *ended: signal.raise_signal(signal.SIGTERM))
    gone.set()
    assert "not all was sent in time" in caplog.text


@pytest.mark.slow
def test_vmapped_seeds_are_a_run_each_in_the_group_of_their_folder(tmp_path, tiny_data, config):
    config.train.num_seeds, config.train.vmap_seeds, config.train.epochs = 2, True, 1
    train_seeds(config, tmp_path / "three")
    for seed in range(2):
        run = tmp_path / "three" / f"seed{seed}"
        assert sorted(points(run)) == sorted(recorded(run))
        assert json.loads((run / "trackers" / "my_tracker.Tracker.json").read_text())["id"] == f"three/seed{seed}"


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("runs/quickstart", ("runs", "quickstart")),
        ("runs/three/seed0", ("three", "seed0")),
        ("runs/search/trials/0003", ("search", "0003")),
        ("runs/search/trials/0003/fold1", ("search", "0003/fold1")),
    ],
)
def test_the_group_of_a_run_is_its_folder_and_that_of_a_trial_its_search(tmp_path, path, names):
    session = Session(tmp_path / path, Config(), 0, 0)
    assert (session.group, session.name) == names


def test_a_tracker_that_cannot_start_is_an_error_in_one_line_and_closes_the_others(tmp_path, config, tracker, monkeypatch):
    monkeypatch.setattr(tracker, "broken", lambda session: 1 / 0, raising=False)
    config.log.writers = ("my_tracker:Tracker", "my_tracker:broken")
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=r"^config\.log\.writers: my_tracker:broken cannot start: ZeroDivisionError"):
        open_writers(Session(tmp_path / "run", config, 0, 0))
    assert sent(tmp_path / "run") == [["open", ""], ["close"]]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("id = 17", r"my_tracker:Tracker has the id 17; expected text, such as str\(17\)$"),
        ("id = Path('x')", r"my_tracker:Tracker has the id PosixPath\('x'\); expected text"),
        (
            "picture = None",
            "my_tracker:Tracker returned a Tracker without picture; expected an object with the methods scalars, ",
        ),
        (
            "__new__ = lambda cls, session: None",
            "my_tracker:Tracker returned a NoneType without scalars, picture, hyperparameters",
        ),
    ],
)
def test_a_tracker_that_is_no_writer_is_refused_at_the_start(tmp_path, config, tracker, monkeypatch, code, message):
    part = {"__init__": lambda self, session: None}
    exec(code, {"Path": Path}, part)
    monkeypatch.setattr(tracker, "Tracker", type("Tracker", (tracker.Tracker,), part))
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=rf"^config\.log\.writers: {message}"):
        open_writers(Session(tmp_path / "run", config, 0, 0))
    assert list((tmp_path / "run").iterdir()) == []


def test_a_tracker_without_an_id_of_its_own_can_say_none(tmp_path, config, tracker, monkeypatch):
    monkeypatch.setattr(tracker.Tracker, "__init__", lambda self, session: None)
    monkeypatch.setattr(tracker.Tracker, "id", None, raising=False)
    monkeypatch.setattr(tracker.Tracker, "path", tmp_path / "run.sent", raising=False)
    for _ in range(2):
        (writer,) = open_writers(Session(tmp_path, config, 0, 0))
        writer.close()


def test_after_the_training_a_tracker_that_cannot_start_is_a_warning(tmp_path, config, tracker, monkeypatch, caplog):
    monkeypatch.setattr(tracker, "Tracker", lambda session: 1 / 0)
    assert open_writers(Session(tmp_path, config, 0, 0, finished=True)) == []
    assert "cannot start" in caplog.text


def test_a_damaged_record_of_what_was_sent_is_refused(tmp_path, config):
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers" / "my_tracker.Tracker.json").write_text('{"id": "x", "sent": {}}')
    with pytest.raises(UserError, match="no hash of itself; remove it"):
        open_writers(Session(tmp_path, config, 0, 0))


def test_a_missing_package_costs_one_line_that_says_what_to_type(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"wandb is not installed; type  pip install .* -e '\.\[wandb\]'$"):
        check_writers(("tensorboard", "wandb"))


@pytest.mark.parametrize(
    ("writers", "message"),
    [
        (("tensorbord",), r"config\.log\.writers\[0\]: there is no writer 'tensorbord'; did you mean tensorboard"),
        (("wandb, mlflow",), r"'wandb, mlflow'; give several as \"\('wandb', 'mlflow'\)\", with the quotes$"),
        (("wandb", "mlflow", "wandb"), r"config\.log\.writers: names wandb twice; each writer gets all metrics once$"),
    ],
)
def test_unknown_writers_and_those_named_twice_are_refused_with_the_config(writers, message):
    config = Config()
    config.log.writers = writers
    with pytest.raises(ConfigError, match=message):
        validated(config)


def test_jsonl_may_be_named_and_adds_nothing_to_metrics_jsonl(tmp_path, tiny_config):
    tiny_config.log.writers = ("jsonl",)
    config = validated(tiny_config)
    check_writers(config.log.writers)
    (writer,) = open_writers(Session(tmp_path, config, 0, 0))
    writer.scalars(1, {"step/loss": 0.5})
    writer.picture(1, "first layer", np.zeros((2, 2, 3), np.uint8))
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_are_left_out(tmp_path, config):
    (writer,) = open_writers(Session(tmp_path, config, 0, 0))
    writer.scalars(1, {"step/loss": float("nan"), "step/top1": 0.5})
    writer.picture(1, "first layer", np.zeros((2, 2, 3), np.uint8))
    writer.close()
    assert points(tmp_path) == [("step/top1", 1, 0.5)]
