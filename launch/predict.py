"""Classifies pictures, folders of them, and web addresses.

    python launch/predict.py cat.jpg holidays/ https://example.org/a.png
    python launch/predict.py --json holidays/ > holidays.jsonl

Exits 0 if every picture was read, 1 if some were not, which are named on stderr, and 2 if none was; 130 after Ctrl-C.
"""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start()  # before what takes long to import

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from absl import flags, logging

from cifar_flax.errors import CifarFlaxError, RunFailed, UserError
from cifar_flax.runtime import app
from cifar_flax.runtime.flag_values import Fit
from cifar_flax.serving.flags import define_network_flags, network_from_flags

if TYPE_CHECKING:
    from cifar_flax.network import Network

_TOP = flags.DEFINE_integer("top", 5, "classes a picture", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "write a line of JSON a picture")
_CSV = flags.DEFINE_bool("csv", False, "write CSV, a row a class")
_ALLOW_PRIVATE = flags.DEFINE_bool("allow_private", False, "fetch from addresses in private networks too")
define_network_flags()


def main(arguments: list[str]) -> None:
    """Classifies what the arguments name and writes it to stdout."""
    if _JSON.value and _CSV.value:
        raise UserError("--json and --csv: expected one of them")
    # After the flags are checked: a typo should not wait for JAX.
    from cifar_flax.runtime.compilation_cache import enable_persistent_cache

    enable_persistent_cache()
    network = _network()

    from tqdm import tqdm

    from cifar_flax.files.redact import visible
    from cifar_flax.serving import formats
    from cifar_flax.serving.batch_predict import classify_all, expand

    if sys.stdout.isatty():
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal need not know bars
    else:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]  # nor is each name text
    write = formats.chosen(_JSON.value, _CSV.value, terminal=sys.stdout.isatty())
    if _CSV.value:
        print(formats.CSV_HEADER)
    names, fit, skipped = expand(arguments), Fit(flags.FLAGS.fit), 0
    with tqdm(total=len(names), unit=" pictures", disable=None, leave=False) as progress:
        for name, answer in classify_all(network, names, _TOP.value, _ALLOW_PRIVATE.value, fit, flags.FLAGS.flip):
            if isinstance(answer, CifarFlaxError):
                skipped += 1
                progress.write(f"skipped {visible(name)}: {answer}", file=sys.stderr)
            else:
                progress.write(write(name, answer), file=sys.stdout)
            progress.update()
    if skipped == len(names):
        sys.exit(UserError.exit_code)
    if skipped:
        sys.exit(RunFailed.exit_code)


def _network() -> "Network":
    """The network that the flags ask for, with a warning where nobody has fitted its percentages."""
    network = network_from_flags()
    if not network.calibration.source:
        logging.warning("%s: its percentages are not calibrated, and may say too much or too little", network.name)
    return network


def _quietly(arguments: list[str]) -> None:
    """`main`, ending without a word when nobody reads any more, as in predict ... | head, and on Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored
        signal.signal(signal.SIGINT, _leave)
    try:
        main(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends the process at once: an exception would wait for the pictures that are being fetched."""
    with contextlib.suppress(OSError, RuntimeError):  # nobody reads; it came while a line was printed
        sys.stdout.flush()
    os._exit(128 + number)  # as shells have it


if __name__ == "__main__":
    app.run(_quietly, arguments="IMAGE|FOLDER|URL...")
