import os

import numpy as np
import pytest

from benchmarks.plan import Conv
from benchmarks.workers import Worker
from cifar_flax.config import ModelSpec
from cifar_flax.errors import RunFailed, UserError
from cifar_flax.models import ConvNet


@pytest.fixture
def worker():
    with Worker("plan") as worker:
        yield worker


def test_calls_are_answered_by_another_process(worker):
    layers = worker.call("layers_of", ConvNet(), 10)
    assert worker.call("multiply_adds", layers, (2, 2, 3)) == 12 * 10
    assert worker._process.pid != os.getpid()
    assert worker.versions(("numpy",)) == {"numpy": np.__version__}


def test_what_goes_wrong_there_is_raised_here(worker):
    with pytest.raises(UserError, match="expected convnet, speednet or resnet"):
        worker.call("layers_of", ModelSpec(), 10)
    with pytest.raises(RuntimeError, match=r"(?s)in the process of plan:.*in multiply_adds.*ValueError"):
        worker.call("multiply_adds", (Conv("a", 1, 1, "SAME", False),), (5,))
    assert worker.call("multiply_adds", (), (2, 2, 3)) == 0  # and it goes on


def test_a_process_that_is_gone_is_one_line(worker):
    worker._process.kill()
    with pytest.raises(RunFailed, match=r"plan: the process ended with -9; out of memory\?"):
        worker.call("multiply_adds", (), (2, 2, 3))
