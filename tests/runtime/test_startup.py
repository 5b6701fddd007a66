import os
import signal
import subprocess
import sys

import pytest

from cifar_flax.errors import RAISE_OPEN_FILES
from cifar_flax.runtime.startup import MODE, SETTING, tunables
from tests.conftest import ROOT

START = "from cifar_flax.runtime import startup\nstartup.start(large_pages={})\n"


@pytest.mark.parametrize(
    ("before", "mode", "libc", "expected"),
    [
        ("", "always [madvise] never", "glibc 2.36", SETTING),
        ("glibc.malloc.check=1", "always [madvise] never", "glibc 2.41", f"glibc.malloc.check=1:{SETTING}"),
        ("glibc.malloc.hugetlb=0", "always [madvise] never", "glibc 2.36", None),  # the user decided
        (SETTING, "always [madvise] never", "glibc 2.36", None),  # or it would never end
        ("", "[always] madvise never", "glibc 2.36", None),
        ("", "always madvise [never]", "glibc 2.36", None),
        ("", "", "glibc 2.36", None),
        ("", "always [madvise] never", "glibc 2.31", None),
        ("", "always [madvise] never", "", None),  # musl
    ],
)
def test_large_pages_are_requested_where_linux_gives_them_on_request(before, mode, libc, expected):
    assert tunables(before, mode, libc) == expected


def start(code, *arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    return subprocess.Popen(
        command, env={**kept, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_a_restarted_command_keeps_arguments_pid_flags_and_environment():
    code = START.format(True) + "import os, sys\nprint(os.getpid(), sys.argv[1:], sys.warnoptions, os.environ.get('X'))"
    with start(code, "--a=b c", "é", X="y") as process:
        assert process.stdout.read() == f"{process.pid} ['--a=b c', 'é'] ['ignore'] y\n"


@pytest.mark.skipif(
    not MODE.exists() or "[madvise]" not in MODE.read_text(), reason="this kernel gives no huge pages on request"
)
@pytest.mark.parametrize("large_pages", [False, True])
def test_memory_lies_in_large_pages_if_they_were_requested(large_pages):
    code = START.format(large_pages) + "x = b'x' * 2**26\n"
    code += "print(sum(int(l.split()[1]) for l in open('/proc/self/smaps') if l.startswith('AnonHugePages:')))"
    with start(code) as process:
        assert (int(process.stdout.read()) > 2**15) == large_pages  # of 2**16 kB


@pytest.mark.parametrize("large_pages", [False, True])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_during_imports_ends_with_a_line_and_code_75(name, large_pages):
    code = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background shell ignores it
    code += START.format(large_pages) + "print('importing', flush=True)\nimport time\ntime.sleep(600)"
    with start(code) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.Signals[name])
        assert (process.stderr.read(), process.wait()) == (f"{name}; run the same command to go on\n", 75)


@pytest.mark.parametrize("large_pages", [False, True])
def test_a_command_without_its_three_streams_has_them_lead_nowhere(tmp_path, large_pages):
    code = START.format(large_pages) + "import os, subprocess, sys\n"
    code += "print('nobody reads this', flush=True)\nprint('nor this', file=sys.stderr, flush=True)\n"
    code += "subprocess.run(['ls', '/'], check=True)\nnowhere = os.stat(os.devnull)\n"
    code += "same = [os.path.samestat(os.fstat(number), nowhere) for number in range(3)]\n"
    code += "open(sys.argv[1], 'w').write(f'{sys.stdin.read()} {same}')"
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code, str(tmp_path / "seen")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert (tmp_path / "seen").read_text() == " [True, True, True]"


@pytest.mark.parametrize(("limits", "expected"), [("-Sn 30", "2048\n"), ("-n 1000", "1000\n"), ("-Sn 3000", "3000\n")])
def test_few_open_files_are_raised_as_far_as_the_system_allows(limits, expected):
    done = with_open_files(limits, "import resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE)[0])")
    assert (done.stdout, done.stderr) == (expected, "")


def test_too_few_open_files_for_any_command_are_said_at_the_start():
    done = with_open_files("-n 16", "print('begun')")
    line = f"this process may open only 16 files, expected at least 64; {RAISE_OPEN_FILES}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def with_open_files(limits, code):
    command = ["sh", "-c", f'ulimit {limits}; exec "$@"', "sh", sys.executable, "-c", START.format(False) + code]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def test_ctrl_c_between_the_two_handlers_is_answered_too():
    code = "import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nset_handler = signal.signal\n"
    code += "def interrupted(*args):\n    set_handler(*args)\n    os.kill(os.getpid(), signal.SIGINT)\n"
    code += f"signal.signal = interrupted\n{START.format(False)}"
    with start(code) as process:
        assert (process.stderr.read(), process.wait()) == ("SIGINT; run the same command to go on\n", 75)


def test_a_signal_while_libraries_are_busy_is_answered_all_the_same():
    code = START.format(False) + "import hashlib\nprint('busy', flush=True)\nhashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
    with start(code) as process:  # minutes in C, as when XLA compiles
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGTERM)
        assert (process.stderr.read(), process.wait(60)) == ("SIGTERM; run the same command to go on\n", 75)


def test_importing_the_module_changes_nothing():
    code = "import os, signal\nbefore = os.environ.copy(), signal.getsignal(signal.SIGTERM)\n"
    code += "import cifar_flax.runtime.startup\nprint((os.environ.copy(), signal.getsignal(signal.SIGTERM)) == before)"
    with start(code) as process:
        assert process.stdout.read() == "True\n"
