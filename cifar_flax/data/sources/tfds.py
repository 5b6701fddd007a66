"""Data sets of TFDS, written into the cache by a child process.

TensorFlow stays out of the training process: it can break NCCL's collectives of JAX, allocates GPU memory, and takes seconds to
import. This module starts `cifar_flax.data.sources.tfds_worker` instead, and does not import TensorFlow.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cifar_flax.data import cache
from cifar_flax.data.sources.source import Source
from cifar_flax.errors import ConfigError, RunFailed, UserError
from cifar_flax.files.installation import install_command
from cifar_flax.runtime.command_line import as_typed, typed

BUCKET = "storage.googleapis.com"  # hosts prepared data sets of TFDS
PROBE_SECONDS = 8.0  # for a host to answer; a good connection takes well under one
NAME = re.compile(r"(?P<set>\w+)(/(?P<config>[\w.-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
VERSION = re.compile(r"\d+\.\d+\.\d+")
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's C++ log: fatal errors only
    "TF_ENABLE_ONEDNN_OPTS": "0",  # which it announces at any log level
    "CUDA_VISIBLE_DEVICES": "",  # the GPUs are for training
    "NO_GCE_CHECK": "true",  # do not look for Google Cloud credentials, the bucket is public
}
OFFICIAL_ARCHIVES = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}
ORIGIN = "TensorFlow Datasets"  # begins what the cache says of a copy's source, unless it was imported
PREPARE = "set TFDS_DATA_DIR to a directory where TFDS has prepared it"


class Unreachable(UserError):
    """The data set is not on this machine, and no host that has it answers."""


class NotInstalled(UserError):
    """TensorFlow Datasets is not installed."""


class TfdsSource(Source):
    """A name of TFDS, or of an imported archive, as a source.

    Any copy is up to date: what was imported cannot be fetched again.
    """

    def build(self) -> None:
        """Prepares the data set with TFDS.

        Raises:
          UserError: it cannot be had; the message lists the ways to get it.
        """
        try:
            prepare(self.identity, self.image_size)
        except UserError as e:
            for size, entry in cache.manifests_by_size(self.identity).items():
                if not entry.source.startswith(ORIGIN):
                    raise UserError(self._imported_at(size, entry)) from None
            if isinstance(e, NotInstalled):
                install = f"{install_command('tfds')}  and run the same command"
                raise UserError(f"{e} {_how_to_get(self.identity, self.image_size, install)}") from None
            if isinstance(e, Unreachable):
                raise UserError(f"{e} {_how_to_get(self.identity, self.image_size, PREPARE)}") from None
            raise

    def _imported_at(self, size: int | None, entry: cache.Manifest) -> str:
        """A hint on what to type for a name that was imported at another size than this."""
        sides = entry.splits["train"]["images"].shape[1:3]
        imported = f"{self.identity} was imported with {' x '.join(map(str, sides))} pixels"
        if size is None and set(sides) == {self.image_size}:
            return f"{imported}, its own; leave out  --config.data.image_size={self.image_size}"
        if self.image_size is None:
            return f"{imported}; train on it with  --config.data.image_size={size}"
        again = f"{typed('import')} --name={self.identity} --archive=PATH --image_size={self.image_size}"
        return f"{imported}; import it at this size too:  {again}"


def _how_to_get(name: str, size: int | None, first: str) -> str:
    """Lists the ways to get a data set: `first`, and those that work without TFDS."""
    resize = "" if size is None else f" --image_size={size}"
    official = OFFICIAL_ARCHIVES.get(name)
    archive = official or "FILE.npz"
    copy = f"copy {archive} here and run" if official else "with the data as an .npz file or an image folder, run"
    return "\n".join(
        (
            "Any one of these helps:",
            f"  - {first}",
            f"  - {copy}  {typed('import')} --name={name} --archive={archive}{resize}",
            f"  - try the embedded data set:  {as_typed('--config=configs/quickstart.py')}",
        )
    )


def data_dir() -> Path:
    """The user's TFDS directory, by the rule of TFDS: $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser().absolute()


def prepare(name: str, image_size: int | None = None) -> None:
    """Writes an image-classification data set of TFDS into the cache, under `cache.key_of(name, image_size)`.

    Rows are sorted by the feature `id` where there is one, and keep the stored order otherwise. The splits are `train`,
    `validation` and `test`, where there are any; a test split all of whose labels are -1 is left out, and without one,
    `validation` is called `test`; a line says so.

    Args:
      name: a TFDS name: `cifar100`, `imagenet_resized/8x8`, `cifar10:3.0.2`.
      image_size: pixels a side to crop and resize to; None keeps the size of the data set.

    Raises:
      Unreachable: it is not in the user's TFDS directory, and no host that has it answers.
      NotInstalled: TensorFlow Datasets is not installed.
      UserError: there is no such data set, it is not one of image classification, or its files are damaged.
      RunFailed: the child process failed or was killed.
    """
    request: dict[str, Any] = {"name": name, "image_size": image_size}
    directory = prepared_directory(name)
    if find_spec("tensorflow_datasets") is None or find_spec("tensorflow") is None:
        raise NotInstalled(
            f"{name} is not in the cache, and TensorFlow Datasets, which fetches and reads it, is not installed."
        )
    if directory is None:
        hosts = run_child({"action": "hosts", "name": name})["hosts"]
        open_hosts = reachable([BUCKET, *hosts])
        if not open_hosts:
            raise Unreachable(f"{name} is not here, and none of {', '.join(dict.fromkeys([*hosts, BUCKET]))} can be reached.")
        run_child({"action": "download", "bucket": BUCKET in open_hosts, "data_dir": str(data_dir()), **request})
    else:
        run_child({"action": "read", "directory": str(directory), **request})


def prepared_directory(name: str) -> Path | None:
    """Finds the newest version of a data set in the user's TFDS directory, without TensorFlow; None where there is none.

    Raises:
      ConfigError: `name` is not a TFDS name, or does not say which of several configurations is meant.
    """
    parts = NAME.fullmatch(name)
    if parts is None:
        raise ConfigError(
            f"config.data.name: no data set is called {name!r}; expected a TFDS name, folder:PATH or MODULE:FUNCTION"
        )
    root = data_dir() / parts["set"]
    base = root / parts["config"] if parts["config"] else root
    versions = [
        path.parent for path in base.glob(f"{parts['version'] or '*'}/dataset_info.json") if VERSION.fullmatch(path.parent.name)
    ]
    if versions:
        return max(versions, key=lambda path: [int(number) for number in path.name.split(".")])
    configs = sorted({f"{parts['set']}/{path.parent.parent.name}" for path in root.glob("*/*/dataset_info.json")})
    if configs and not parts["config"]:
        raise ConfigError(f"config.data.name: {name} comes in configurations; name one of {', '.join(configs)}")
    return None


def reachable(hosts: list[str]) -> set[str]:
    """Returns the `hosts` that answer over HTTPS, through proxies where configured, within PROBE_SECONDS in all."""
    answered: set[str] = set()

    def probe(host: str) -> None:
        request = urllib.request.Request(f"https://{host}/", method="HEAD")
        try:
            urllib.request.build_opener().open(request, timeout=PROBE_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # an answer, if not a friendly one
        except (OSError, ValueError):
            return
        answered.add(host)

    # A name lookup has no timeout, hence daemon threads.
    threads = [threading.Thread(target=probe, args=(host,), daemon=True) for host in dict.fromkeys(hosts)]
    deadline = time.monotonic() + PROBE_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(answered)


def run_child(request: dict[str, Any]) -> dict[str, Any]:
    """Runs the worker process on `request` and returns its answer; its stderr goes to the user.

    Raises:
      UserError: the worker reported a mistake in the request.
      RunFailed: it was killed, or failed in another way.
    """
    package_root = str(Path(__file__).resolve().parents[3])
    search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    child = subprocess.run(  # nosec B603 # this Python, and a request that the child checks again
        [sys.executable, "-P", "-m", "cifar_flax.data.sources.tfds_worker", json.dumps(request)],
        env={**os.environ, **QUIET, "PYTHONPATH": search_path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    name = request["name"]
    if child.returncode < 0:
        cause = signal.Signals(-child.returncode).name
        hint = "; was there enough memory?" if cause == "SIGKILL" else ""
        raise RunFailed(f"{name}: the process that reads TensorFlow Datasets was ended by {cause}{hint}")
    try:
        answer: dict[str, Any] = json.loads(child.stdout)
    except ValueError:
        raise RunFailed(f"{name}: the process that reads TensorFlow Datasets ended with exit code {child.returncode}") from None
    if "config_error" in answer:
        raise ConfigError(answer["config_error"])
    if "user_error" in answer:
        raise UserError(answer["user_error"])
    if "failure" in answer:
        raise RunFailed(answer["failure"])
    return answer
