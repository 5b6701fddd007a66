import functools
import struct

from tensorboardX.proto.event_pb2 import Event, SessionLog

from cifar_flax.training.tensorboard import TensorBoard


def events(folder):
    """The events of all files, oldest file first; each record is length, its checksum, the event, its checksum."""
    actual = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            actual.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return actual


def test_scalars_are_there_as_soon_as_they_are_written(tmp_path):
    board = TensorBoard(tmp_path, 0)
    board.scalars(3, {"train/loss": 1.5, "train/top1": 0.25, "step/loss": float("nan")})
    values = [(e.step, v.tag, v.simple_value) for e in events(tmp_path / "tensorboard") for v in e.summary.value]
    assert values == [(3, "train/loss", 1.5), (3, "train/top1", 0.25)]
    board.close()


def test_a_run_that_goes_on_tells_tensorboard_what_to_forget(tmp_path, monkeypatch):
    """In a file that is read after those before, although the clock was set back by a year."""
    for number, step in enumerate((0, 7)):
        monkeypatch.setattr("time.time", functools.partial(float, 1.8e9 - number * 365 * 86400))
        TensorBoard(tmp_path, step).close()
    starts = [e.step for e in events(tmp_path / "tensorboard") if e.session_log.status == SessionLog.SessionStatus.START]
    assert starts == [0, 7]
