import functools
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import SessionLog
from tensorboardX.record_writer import masked_crc32c

from cifar_flax.training.writers.tensorboard import TensorBoard, read_events, recorded_by, recorded_while_training


def events(folder):
    """The events of all files, oldest file first."""
    return [event for path in sorted(folder.glob("events*")) for event in read_events(path)]


def values(folder):
    return [(e.step, v.tag, v.simple_value) for e in events(folder) for v in e.summary.value]


def everything(tag, step):
    return True


def test_scalars_are_there_as_soon_as_they_are_written(tmp_path):
    board = TensorBoard(tmp_path, everything)
    board.scalars(3, {"train/loss": 1.5, "train/top1": 0.25, "step/loss": float("nan")})
    assert values(tmp_path / "tensorboard") == [(3, "train/loss", 1.5), (3, "train/top1", 0.25)]
    board.close()


def train(workdir, steps, done=(0, 0)):
    """Epochs of two steps, from `done` (step, step of the last epoch) on."""
    board = TensorBoard(workdir, recorded_by(*done))
    for step in range(done[0], steps + 1):
        if step > done[0]:
            board.scalars(step, {"step/loss": 1 / step})
        if step % 2 == 0 and step > done[1]:
            board.scalars(step, {"train/loss": 0.5, "validation/loss": 1.5})
            board.picture(step, "first layer", np.full((2, 2, 1), step, np.uint8))
    board.close()


def finish(workdir):
    board = TensorBoard(workdir, recorded_while_training)
    board.hyperparameters(6, {"seed": 1.0}, {"best/top1": 0.5})
    board.picture(6, "confusion", np.zeros((2, 2, 1), np.uint8))
    board.close()


@pytest.mark.parametrize(
    ("stopped_at", "restored"),
    [(3, (3, 2)), (4, (4, 4)), (5, (4, 4)), (4, (4, 2)), (6, (2, 2)), (5, (0, 0)), (6, (6, 6))],
    ids=["within", "epoch", "beyond", "before validation", "quarantined", "no checkpoint", "at the end"],
)
def test_a_resumed_run_has_the_events_of_one_in_one_go(tmp_path, stopped_at, restored):
    train(tmp_path / "whole", 6)
    finish(tmp_path / "whole")
    train(tmp_path / "run", stopped_at)
    if stopped_at == 6:
        finish(tmp_path / "run")
    train(tmp_path / "run", 6, restored)
    finish(tmp_path / "run")
    expected, actual = (
        sorted((e.step, e.summary.SerializeToString()) for e in events(tmp_path / run / "tensorboard") if e.summary.value)
        for run in ("whole", "run")
    )
    assert [(step, tag) for step, tag, _ in sorted(values(tmp_path / "run" / "tensorboard"))] == [
        (step, tag) for step, tag, _ in sorted(values(tmp_path / "whole" / "tensorboard"))
    ]
    assert len(actual) == len(expected)
    assert {"first_layer", "confusion", "best/top1"} <= {tag for _, tag, _ in values(tmp_path / "run" / "tensorboard")}


def test_a_file_cut_short_and_one_left_by_a_kill_cost_no_event_and_repeat_none(tmp_path, caplog):
    train(tmp_path, 4)
    folder = tmp_path / "tensorboard"
    (path,) = folder.iterdir()
    copy = path.read_bytes()
    train(tmp_path, 5, (4, 4))
    (new,) = folder.iterdir()
    path.write_bytes(copy)  # as if the process had been killed before it was removed
    new.write_bytes(new.read_bytes()[:-5])
    train(tmp_path, 6, (4, 4))
    assert [step for step, tag, _ in values(folder) if tag == "step/loss"] == [1, 2, 3, 4, 5, 6]
    assert "cut short or damaged" in caplog.text


def test_a_run_that_goes_on_writes_a_file_that_is_read_after_those_before(tmp_path, monkeypatch):
    """Although the clock was set back by a year. A TensorBoard that watches is told to read anew."""
    names = []
    for number in range(2):
        monkeypatch.setattr("time.time", functools.partial(float, 1.8e9 - number * 365 * 86400))
        TensorBoard(tmp_path, everything).close()
        (path,) = (tmp_path / "tensorboard").iterdir()
        names.append(path.name)
    assert names == sorted(names)
    starts = [e.step for e in events(tmp_path / "tensorboard") if e.session_log.status == SessionLog.SessionStatus.START]
    assert starts == [0]


def test_an_event_that_is_none_ends_what_is_read_of_its_file(tmp_path, caplog):
    train(tmp_path, 2)
    (path,) = (tmp_path / "tensorboard").iterdir()
    body = b"\xff\xff\xff\xff garbage"
    length = struct.pack("<Q", len(body))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, body)]
    path.write_bytes(path.read_bytes() + length + checksums[0] + body + checksums[1])
    before = values(tmp_path / "tensorboard")
    train(tmp_path, 2, (2, 2))
    assert values(tmp_path / "tensorboard") == before
    assert "holds what is no event" in caplog.text
