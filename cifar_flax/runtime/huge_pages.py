"""Has malloc ask Linux for pages of 2 MB, by starting the command anew with that setting.

Imported first, for its effect, and before `startup`, which lets signals through again.

XLA's CPU backend allocates what a step computes with anew each time, gigabytes of it: with pages of 4 kB, a tenth of the time
of a step goes into half a million page faults. glibc reads the setting when a process starts, and at no other time.
"""

import os
import signal
import sys
from pathlib import Path

SETTING = "glibc.malloc.hugetlb=1"  # glibc manual, "Memory Allocation Tunables": madvise(MADV_HUGEPAGE); since glibc 2.35
VARIABLE = "GLIBC_TUNABLES"
MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # "always [madvise] never", the mode in brackets


def tunables(before: str, mode: str, libc: str) -> str | None:
    """What VARIABLE is to be; None where it is to stay as it is.

    Args:
      before: its value, settings separated by colons.
      mode: the text of MODE, empty where there is none.
      libc: name and version, such as "glibc 2.36".
    """
    name, _, version = libc.partition(" ")
    known = name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)
    if not known or "[madvise]" not in mode or "glibc.malloc.hugetlb" in before:
        return None
    return ":".join(filter(None, (before, SETTING)))


def request() -> None:
    """Starts this command anew, in the same process, where that gets it large pages."""
    mode = MODE.read_text(encoding="ascii") if MODE.exists() else ""
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ()) else ""
    value = tunables(os.environ.get(VARIABLE, ""), mode, libc or "")
    if value is not None:
        os.environ[VARIABLE] = value
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))  # until `startup` can answer them
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # nosec B606 # itself


request()
