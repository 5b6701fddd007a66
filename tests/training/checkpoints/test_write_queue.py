import math
import threading

import pytest

from cifar_flax.training.checkpoints import write_queue
from cifar_flax.training.checkpoints.write_queue import WriteQueue


class Disk:
    """Writes nothing before the event is set."""

    def __init__(self):
        self.written, self.begun, self.proceed = [], threading.Event(), threading.Event()

    def write(self, step):
        self.begun.set()
        assert self.proceed.wait(600)
        self.written.append(step)


@pytest.mark.parametrize(
    ("scores", "keep", "written"),
    [
        ([-math.inf] * 6, 2, [1, 5, 6]),
        ([-math.inf] * 6, 1, [1, 6]),
        ([0.5, 0.6, 0.9, 0.7, 0.8, 0.8], 2, [1, 3, 5, 6]),
        ([0.5, 0.6, 0.9, 0.7, 0.8, 0.8], 1, [1, 3, 6]),
        ([0.5, 0.9, 0.6, 0.9, 0.7, 0.8], 2, [1, 4, 5, 6]),  # of equal ones the latest is the best
        ([0.9, 0.5, 0.6, 0.7, 0.8, 0.8], 2, [1, 5, 6]),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2, [1, 5, 6]),
        ([0.5, -math.inf, 0.6, -math.inf, 0.4, -math.inf], 2, [1, 3, 5, 6]),
    ],
)
def test_between_the_one_being_written_and_the_latest_only_the_best_is_not_left_out(scores, keep, written):
    queue, disk = WriteQueue(keep), Disk()
    for step, score in enumerate(scores, start=1):
        queue.make_room(1)
        queue.submit(lambda step=step: disk.write(step), score)
        assert disk.begun.wait(600)
    disk.proceed.set()
    queue.wait()
    queue.close()
    assert disk.written == written


def test_a_state_waits_for_room_in_memory(monkeypatch):
    monkeypatch.setattr(write_queue, "UNWRITTEN_BYTES", 1000)
    queue, disk = WriteQueue(2), Disk()
    for step in (1, 2):
        queue.make_room(400)
        queue.submit(lambda step=step: disk.write(step), 0.5)
    assert disk.written == []
    threading.Timer(0.2, disk.proceed.set).start()
    queue.make_room(400)
    assert disk.written[0] == 1
    queue.close()


def test_what_a_write_raises_is_raised_by_whoever_waits():
    queue = WriteQueue(2)
    queue.submit(lambda: 1 / 0, 0.5)
    with pytest.raises(ZeroDivisionError):
        queue.wait()
    queue.close()
