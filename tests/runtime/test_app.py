import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_flax.errors import RERUN_HINT, RunFailed
from cifar_flax.runtime.app import report
from cifar_flax.runtime.preemption import Interrupt

APP = """
from absl import flags
from cifar_flax.runtime import app
flags.DEFINE_integer("how_often", 1, "of it")
app.run(lambda words: print(words, flags.FLAGS.how_often), arguments="WORD...")
"""


ORPHAN = """
from cifar_flax.runtime import app
code = compile("async def read():\\n    try:\\n        await later\\n    finally:\\n        raise OSError('a')", FILE, "exec")
class Later:
    def __await__(self):
        yield
names = {"later": Later()}
def main():
    exec(code, names)
    coroutine = names["read"]()
    coroutine.send(None)
    del coroutine
app.run(main)
"""


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return lambda *args: subprocess.run(
        [sys.executable, "app.py", *args], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )


def test_a_warning_cannot_steer_the_terminal(app, tmp_path):
    (tmp_path / "app.py").write_text(
        "from absl import logging\nfrom cifar_flax.runtime import app\n"
        "app.run(lambda: logging.warning('%s', 'pets\\x1b[2J: left out\\nthe rest'))"
    )
    assert app().stderr == "pets\\x1b[2J: left out\nthe rest\n"


def test_arguments_may_stand_before_and_after_flags(app):
    actual = app("a b", "--how_often=3", "c", "--", "--d-e")
    assert actual.stdout == "['a b', 'c', '--d-e'] 3\n", actual.stderr
    assert app("x", "--how-often=2").stdout == "['x'] 2\n"


def test_flags_of_absl_are_taken(app, tmp_path):
    (tmp_path / "flags.txt").write_text("--how_often=3\n")
    assert app("x", "--flagfile=flags.txt").stdout == "['x'] 3\n"
    assert app("x", "--undefok=how_oft", "--how_oft=3").stdout == "['x'] 1\n"


@pytest.mark.parametrize("given", [["--how_often", "3"], ["--how_often=3"]])
def test_the_value_of_another_flag_is_not_taken_for_that_of_a_missing_one(app, tmp_path, given):
    (tmp_path / "app.py").write_text(
        APP.replace("app.run", 'flags.DEFINE_string("run", None, "a folder", required=True)\napp.run')
    )
    assert app(*given).stderr == "--run: missing; expected --run=VALUE: a folder\n"
    assert app(*given, "runs/a").stderr == "--run: missing; expected --run=runs/a: a folder\n"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "WORD...: missing; expected  python app.py WORD...\n"),
        (["a", "--how_oft=3"], "--how_oft: no such flag. Did you mean --how_often?\n"),
    ],
)
def test_a_mistake_beside_arguments_costs_one_line(app, args, expected):
    actual = app(*args)
    assert (actual.returncode, actual.stdout, actual.stderr) == (2, "", expected)


@pytest.mark.parametrize("words", [1, 20_000])  # fits a buffer; does not
def test_a_closed_pipe_costs_no_traceback(app, tmp_path, words):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "app.py", *["word"] * words]
    done = subprocess.run(command, check=False, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=600)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(("file", "reported"), [("lib/orbax/checkpoint/read.py", False), ("ours.py", True)])
def test_unawaited_coroutines_of_orbax_are_not_reported(tmp_path, file, reported):
    (tmp_path / "orphan.py").write_text(ORPHAN.replace("FILE", repr(file)))
    done = subprocess.run([sys.executable, "orphan.py"], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0
    assert ("OSError: a" in done.stderr) == reported


def test_a_loop_for_which_there_are_too_many_open_files_is_not_reported(tmp_path):
    code = "import asyncio\nfrom cifar_flax.runtime import app\nloop = asyncio.SelectorEventLoop\n"
    (tmp_path / "app.py").write_text(f"{code}app.run(lambda: loop.__new__(loop) and None)")
    done = subprocess.run([sys.executable, "app.py"], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("begun_again", [True, False])
@pytest.mark.parametrize(
    "fail",
    [
        lambda: signal.default_int_handler(signal.SIGINT, None),
        lambda: os.stat("/proc/self/fd/none"),
        lambda: Path("/dev/full").write_bytes(b"x"),
        lambda: (_ for _ in ()).throw(RunFailed(f"cannot write a checkpoint; {RERUN_HINT}")),
    ],
)
def test_after_restart_every_line_says_to_go_on_without_it(capsys, fail, begun_again):
    def train():
        with Interrupt() as interrupt:
            interrupt.begun_again = begun_again
            fail()

    with pytest.raises(SystemExit):
        report(train)
    hint = "run the same command without --restart to go on" if begun_again else "run the same command to go on"
    assert capsys.readouterr().err.endswith(f"{hint}\n")
