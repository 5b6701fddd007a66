import os
import subprocess
import sys
from unittest import mock

import pytest

from tests.conftest import ROOT

with mock.patch.dict(os.environ, GLIBC_TUNABLES="glibc.malloc.hugetlb=0"):  # or the import would start pytest anew
    from cifar_flax.runtime.huge_pages import MODE, SETTING, tunables


@pytest.mark.parametrize(
    ("before", "mode", "libc", "expected"),
    [
        ("", "always [madvise] never", "glibc 2.36", SETTING),
        ("glibc.malloc.check=1", "always [madvise] never", "glibc 2.41", f"glibc.malloc.check=1:{SETTING}"),
        ("glibc.malloc.hugetlb=0", "always [madvise] never", "glibc 2.36", None),  # a user's word
        (SETTING, "always [madvise] never", "glibc 2.36", None),  # or it would never end
        ("", "[always] madvise never", "glibc 2.36", None),
        ("", "always madvise [never]", "glibc 2.36", None),
        ("", "", "glibc 2.36", None),
        ("", "always [madvise] never", "glibc 2.31", None),
        ("", "always [madvise] never", "", None),  # musl
    ],
)
def test_when_a_command_is_started_anew_and_with_what(before, mode, libc, expected):
    assert tunables(before, mode, libc) == expected


def run(code, *arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    return subprocess.run(command, env={**kept, **environment}, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_a_command_keeps_its_arguments_its_number_and_what_it_was_told():
    code = "import cifar_flax.runtime.huge_pages, os, sys\n"
    code += "print(os.getpid(), sys.argv[1:], sys.warnoptions, os.environ.get('X'))"
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, "--a=b c", "é"],
        env={**kept, "X": "y"},
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout.read() == f"{process.pid} ['--a=b c', 'é'] ['ignore'] y\n"


@pytest.mark.skipif(
    not MODE.exists() or "[madvise]" not in MODE.read_text(), reason="this kernel gives no huge pages on request"
)
def test_what_is_allocated_lies_in_huge_pages():
    code = """
import sys
if sys.argv[1] == "requested":
    import cifar_flax.runtime.huge_pages
x = b"x" * 2**26
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages:")))
"""
    assert int(run(code, "not requested")) < 2**15
    assert int(run(code, "requested")) > 2**15  # of the 2**16 kB
