"""What SIGTERM and Ctrl-C do to a command that is still being imported, which takes half a second: a line, and exit code 75.

Imported before all else, for its effect, by the apps in `launch/`.
"""

import os
import signal
import sys
from types import FrameType

from cifar_flax.errors import RERUN_HINT, Preempted


def leave(number: int, frame: FrameType | None) -> None:
    """Ends the process at once: nothing is to be saved yet, and what is being imported may swallow an exception."""
    os.write(sys.stderr.fileno(), f"{signal.Signals(number).name}; {RERUN_HINT}\n".encode())
    os._exit(Preempted.exit_code)


signal.signal(signal.SIGTERM, leave)
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in a shell's background
    signal.signal(signal.SIGINT, leave)
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))  # `huge_pages` had them wait
