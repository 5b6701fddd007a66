import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cifar_flax import Run
from cifar_flax.config.serialize import validated
from cifar_flax.errors import Preempted
from cifar_flax.training.loop import train
from cifar_flax.training.trainer import Trainer
from tests.conftest import ROOT, TINY_CONFIG

# Python runs a module of this name before anything else.
SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, *_):
        if name == "absl":  # the first that launch/ imports from elsewhere
            time.sleep(600)
sys.meta_path.insert(0, Slow())
"""


def handles(process, number):
    """Whether it has come so far as to have a handler for the signal: its own imports take a moment."""
    with open(f"/proc/{process.pid}/status") as file:
        caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["at the start", "a second later", "once it trains"])
def test_sigterm_at_any_moment_is_an_exit_code_and_a_line_that_says_how_to_go_on(moment, tiny_data, tmp_path):
    command = [sys.executable, ROOT / "launch" / "train.py", f"--config={TINY_CONFIG}", "--workdir=run"]
    process = subprocess.Popen(
        [*map(str, command), "--config.train.epochs=2000"],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while process.poll() is None and not handles(process, signal.SIGTERM):
            time.sleep(0.01)
        time.sleep(moment == "a second later")
        metrics = tmp_path / "run" / "metrics.jsonl"
        while moment == "once it trains" and process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 75, stderr
    assert len(stderr.splitlines()) == 1
    assert stderr.startswith("SIGTERM")
    assert "run the same command to go on" in stderr
    assert moment != "once it trains" or "saved at step" in stderr
    if "saved at step" in stderr:
        assert f"saved at step {Run.open(tmp_path / 'run').step('latest')} in" in stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("app", "number"),
    [
        *((app, signal.SIGTERM) for app in ("train", "search", "evaluate", "compare", "export", "import_data", "predict")),
        *((app, signal.SIGINT) for app in ("train", "compare")),  # with large pages, and without
    ],
)
def test_a_command_that_is_still_being_imported_answers_as_later(app, number, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORT)
    process = subprocess.Popen(
        [sys.executable, ROOT / "launch" / f"{app}.py"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not handles(process, signal.SIGTERM):
        time.sleep(0.001)
    process.send_signal(number)
    assert process.communicate(timeout=600)[1] == f"{number.name}; run the same command to go on\n"
    assert process.returncode == 75


def test_when_the_minutes_are_over_the_run_ends_and_the_same_call_goes_on(tiny_data, tiny_config, tmp_path):
    config = validated(tiny_config)
    with pytest.raises(Preempted, match=r"--max_minutes=0 are over: there is nothing to save yet; run the same command"):
        train(config, tmp_path / "run", max_minutes=0)
    assert int(train(config, str(tmp_path / "run"), max_minutes=60).step) == 18


def test_a_run_stops_while_a_program_is_compiled_and_goes_on_later(tiny_data, tiny_config, tmp_path, monkeypatch):
    config, go = validated(tiny_config), threading.Event()
    compile_steps = Trainer._compile

    def slow(trainer, key):
        os.kill(os.getpid(), signal.SIGTERM)
        assert go.wait(100)
        return compile_steps(trainer, key)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_compile", slow)
        with pytest.raises(Preempted, match=r"SIGTERM: saved at step 0 in .*; run the same command"):
            train(config, tmp_path / "run")
        go.set()
    assert Run.open(tmp_path / "run").step("latest") == 0
    assert int(train(config, tmp_path / "run").step) == 18
