"""The start of a command, before slow imports: it answers signals, asks for large pages, isolates itself.

XLA's CPU backend allocates anew what each step computes with, gigabytes of it. With pages of 4 kB, a tenth of a step's time
goes into half a million page faults. glibc's malloc asks Linux for pages of 2 MB where a setting says so, which it reads when a
process starts and at no other time.
"""

import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from cifar_flax.errors import RAISE_OPEN_FILES, RERUN_HINT, Preempted, UserError
from cifar_flax.runtime import environment
from cifar_flax.runtime.memory import check_memory

SETTING = "glibc.malloc.hugetlb=1"  # glibc manual, "Memory Allocation Tunables": madvise(MADV_HUGEPAGE); since glibc 2.35
VARIABLE = "GLIBC_TUNABLES"
MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # "always [madvise] never", the mode in brackets
SIGNALS = (signal.SIGTERM, signal.SIGINT)
OPEN_FILES = 2048  # enough for the 200 connections of `serve`
FEWEST_OPEN_FILES = 64  # a small training needs between 30 and 50; with 16, XLA fails and hangs
GRACE_SECONDS, LONG_GRACE_SECONDS = 0.5, 8.0  # from a signal to the end: where nothing is saved; where Ctrl-C is an exception


def start(large_pages: bool = False) -> None:
    """Makes SIGTERM and Ctrl-C end the process at once, with a line and exit code 75, until something else answers them.

    Args:
      large_pages: starts the command anew, in the same process and with the same arguments, where that gets it large pages.
    """
    _open_closed_streams()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until both are answered; a start anew has them blocked already
    signal.signal(signal.SIGTERM, leave)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in a shell's background
        signal.signal(signal.SIGINT, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if large_pages:
        mode = MODE.read_text(encoding="ascii") if MODE.exists() else ""
        libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
        value = tunables(os.environ.get(VARIABLE, ""), mode, libc or "")
        if value is not None:
            os.environ[VARIABLE] = value
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until they can be answered again
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # nosec B606 # this command
    _watch_signals()
    try:
        check_memory()
        _allow_open_files()
        environment.isolate()
    except UserError as e:
        print(e, file=sys.stderr)
        sys.exit(e.exit_code)


def _allow_open_files() -> None:
    """Raises the limit on open files to OPEN_FILES, or to what the system allows.

    Raises:
      UserError: that is fewer than any command needs.
    """
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    if raised < FEWEST_OPEN_FILES:
        raise UserError(f"this process may open only {raised} files, expected at least {FEWEST_OPEN_FILES}; {RAISE_OPEN_FILES}")
    if limit != resource.RLIM_INFINITY and limit < raised:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, most))


def _open_closed_streams() -> None:
    """Lets stdin, stdout and stderr lead nowhere where the command was started without, as by `>&-`.

    Python has None in their place then, and the next file that is opened would get what is printed in C.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(number, True)  # by the command that is started anew, and by other processes
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _watch_signals() -> None:
    """Ends the process by a thread where Python cannot handle a signal, being busy in C++: XLA compiles for minutes."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(woken, 1):
            handler = signal.getsignal(number[0])
            if number[0] in SIGNALS and handler in (leave, signal.default_int_handler):
                time.sleep(GRACE_SECONDS if handler is leave else LONG_GRACE_SECONDS)
                leave(number[0], None)

    threading.Thread(target=watch, daemon=True).start()


def leave(number: int, frame: FrameType | None) -> None:
    """Ends the process at once: nothing is to be saved yet, and an exception may be swallowed by what is being imported."""
    os.write(sys.stderr.fileno(), f"{signal.Signals(number).name}; {RERUN_HINT}\n".encode())
    os._exit(Preempted.exit_code)


def tunables(before: str, mode: str, libc: str) -> str | None:
    """The value of VARIABLE that asks for large pages; None where it should stay as it is.

    Args:
      before: its value, settings separated by colons.
      mode: the text of MODE, empty where there is none.
      libc: name and version, such as "glibc 2.36".
    """
    name, _, version = libc.partition(" ")
    supported = name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)
    if not supported or "[madvise]" not in mode or "glibc.malloc.hugetlb" in before:
        return None
    return ":".join(filter(None, (before, SETTING)))
