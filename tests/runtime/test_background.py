import subprocess
import sys
import threading

import pytest

from cifar_flax.runtime import background
from tests.conftest import ROOT

STOPPED = """
import threading
from cifar_flax.errors import Preempted
from cifar_flax.runtime import app, background
def main():
    background.submit(threading.Event().wait)
    raise Preempted("told to stop")
app.run(main)
"""
ENDED = """
import threading, time
from cifar_flax.runtime import background
begun = threading.Event()
def slow():
    begun.set()
    time.sleep(0.5)
    print("ended", flush=True)
background.submit(slow)
for _ in range(background.AT_ONCE):
    background.submit(lambda: (time.sleep(1), print("a later one", flush=True)))
begun.wait()
"""


def test_a_result_or_an_error_reaches_the_caller():
    assert background.submit(lambda: 1 + 1).result() == 2
    with pytest.raises(ZeroDivisionError):
        background.submit(lambda: 1 / 0).result()


def test_calls_run_beside_the_caller():
    go = threading.Event()
    future = background.submit(lambda: go.wait(60))
    assert background.busy()
    go.set()
    assert future.result()


def test_a_command_that_is_told_to_stop_does_not_wait_for_a_call():
    done = subprocess.run([sys.executable, "-c", STOPPED], check=False, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (75, "told to stop\n")


def test_a_process_ends_after_calls_that_have_begun_without_the_others():
    done = subprocess.run([sys.executable, "-c", ENDED], check=True, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert "ended\n" in done.stdout
    assert done.stdout.count("a later one") < background.AT_ONCE
