import os
import pty
import subprocess
import sys

from cifar_flax.runtime.progress import ProgressLine, format_duration
from tests.conftest import ROOT
from tests.helpers.terminal import read

SHOW = """
from cifar_flax.runtime.progress import ProgressLine
progress = ProgressLine()
progress.print("training")
progress.show("step 1 " + "x" * 200)
progress.show("step 2")
progress.print("epoch 1")
progress.clear()
progress.print("done")
"""


def screen(output, width):
    """The lines that a terminal is left with after carriage returns and line feeds."""
    lines = []
    for line in output.replace("\r\n", "\n").split("\n"):
        cells = [" "] * width
        for part in line.split("\r"):
            assert len(part) <= width, "a live line that wraps is not erased"
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return [line for line in lines if line]


def test_a_terminal_shows_a_live_line_and_keeps_permanent_ones():
    test_end, child_end = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", SHOW], cwd=ROOT, stdout=child_end, env=environment) as process:
        os.close(child_end)
        output = b""
        while chunk := read(test_end):
            output += chunk
    assert process.returncode == 0
    assert b"step 1" in output
    assert screen(output.decode(), 80) == ["training", "epoch 1", "done"]


def test_a_file_gets_plain_lines():
    done = subprocess.run([sys.executable, "-c", SHOW], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["training", "step 1 " + "x" * 200, "step 2", "epoch 1", "done"]


def test_a_silent_one_prints_nothing(capsys):
    progress = ProgressLine(silent=True)
    progress.print("training")
    progress.show("step 1")
    progress.clear()
    assert not progress.due()
    assert capsys.readouterr().out == ""


def test_durations_are_hours_minutes_and_seconds():
    assert [format_duration(seconds) for seconds in (0.4, 59.6, 3661)] == ["0:00:00", "0:01:00", "1:01:01"]
