import signal
import subprocess
import sys
import threading
import time

import pytest

from cifar_flax.runtime import preemption
from cifar_flax.runtime.preemption import Interrupt, StopRequested
from tests.conftest import ROOT

BUSY = """
import hashlib, os, sys
from cifar_flax.runtime import preemption
preemption.GRACE_SECONDS = 0.5
with preemption.Interrupt() as interrupt:
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C, as when XLA compiles
    interrupt.check()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_unanswered_signal_ends_the_process_after_the_grace_period(name):
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == "busy\n"
    time.sleep(0.2)
    process.send_signal(signal.Signals[name])
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 75
    assert stderr == f"{name}: busy for 0 s more, so it ends; what was saved before is intact; run the same command to go on\n"


def test_a_run_that_was_begun_again_is_said_to_go_on_without_restart():
    code = BUSY.replace("Interrupt()", "Interrupt(max_minutes=0.01)").replace("print(", "interrupt.begun_again = True; print(")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False, timeout=600)
    assert done.returncode == 75
    assert done.stderr.endswith("; run the same command without --restart to go on\n")


def test_the_end_of_max_minutes_that_is_not_answered_ends_the_process_too():
    code = BUSY.replace("Interrupt()", "Interrupt(max_minutes=0.01)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False, timeout=600)
    assert done.returncode == 75
    assert done.stderr.startswith("--max_minutes=0.01 are over: busy for 0 s more, so it ends")


def test_a_stop_that_was_answered_in_time_may_take_long_to_save(monkeypatch):
    monkeypatch.setattr(preemption, "GRACE_SECONDS", 1)
    left = []
    monkeypatch.setattr(preemption.os, "_exit", left.append)  # which a thread would call
    with Interrupt() as interrupt:
        preemption.signal.raise_signal(preemption.signal.SIGTERM)
        with pytest.raises(StopRequested, match="SIGTERM"):
            interrupt.check()
        time.sleep(1.4)
    assert not left


@pytest.mark.parametrize("max_minutes", [None, 0.002])
def test_what_is_left_to_do_may_take_longer(monkeypatch, max_minutes):
    monkeypatch.setattr(preemption, "GRACE_SECONDS", 0.2)
    left = []
    monkeypatch.setattr(preemption.os, "_exit", left.append)
    with Interrupt(max_minutes) as interrupt, interrupt.defer_stop():
        if max_minutes is None:
            signal.raise_signal(signal.SIGTERM)
        time.sleep(0.6)
    assert not left
    assert interrupt.requested


def test_after_what_was_left_to_do_a_request_is_waited_for_as_before(monkeypatch):
    monkeypatch.setattr(preemption, "GRACE_SECONDS", 0.2)
    left = threading.Event()
    monkeypatch.setattr(preemption.os, "_exit", lambda code: left.set())
    with Interrupt() as interrupt:
        with interrupt.defer_stop():
            pass
        signal.raise_signal(signal.SIGTERM)
        assert left.wait(60)


def test_an_echoed_signal_is_one_request_and_a_later_signal_stops_at_once(monkeypatch):
    now = 100.0
    monkeypatch.setattr(preemption.time, "monotonic", lambda: now)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells take from what they run in the background
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested == "SIGINT"
        now += 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(StopRequested):
            interrupt.check()
    signal.signal(signal.SIGINT, before)


def test_max_minutes_may_be_longer_than_any_thread_can_wait():
    code = "import time; from cifar_flax.runtime.preemption import Interrupt\nwith Interrupt(1e12): time.sleep(0.5)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_end_of_max_minutes_requests_a_stop(monkeypatch):
    now = 100.0
    monkeypatch.setattr(preemption.time, "monotonic", lambda: now)
    with Interrupt(max_minutes=2) as interrupt:
        interrupt.check()
        now += 120
        with pytest.raises(StopRequested, match="--max_minutes=2 are over"):
            interrupt.check()
