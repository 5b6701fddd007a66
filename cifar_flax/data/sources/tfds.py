"""TensorFlow Datasets into the cache, always in a child process.

TensorFlow must not enter the training process: beside JAX it can break NCCL's collectives, it grabs GPU memory, and it takes
seconds to load. This module runs `cifar_flax.data.sources.tfds_worker` instead, and imports nothing of TensorFlow itself.
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

from cifar_flax.errors import ConfigError, RunFailed, UserError

BUCKET = "storage.googleapis.com"  # where TFDS keeps prepared data sets
PROBE_SECONDS = 8.0  # for a host to answer; a good connection takes well under one
NAME = re.compile(r"(?P<set>\w+)(/(?P<config>[\w.-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
VERSION = re.compile(r"\d+\.\d+\.\d+")
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's C++ log: fatal errors only
    "TF_ENABLE_ONEDNN_OPTS": "0",  # which it announces at any log level
    "CUDA_VISIBLE_DEVICES": "",  # the GPUs are for training
    "NO_GCE_CHECK": "true",  # do not look for Google Cloud credentials, the bucket is public
}


class Unreachable(UserError):
    """The data set is not on this machine, and the hosts it could come from do not answer."""


class NotInstalled(UserError):
    """TensorFlow Datasets, which would read or fetch the data set, is not installed."""


class NotPrepared(UserError):
    """The data set is not in the user's TFDS directory."""


def data_dir() -> Path:
    """The user's TFDS directory: $TFDS_DATA_DIR or ~/tensorflow_datasets, as TFDS itself has it."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser().absolute()


def prepare(name: str, image_size: int | None = None, allow_download: bool = True) -> None:
    """Writes a TFDS image-classification set into the cache, under `cache.key_of(name, image_size)`.

    Rows are sorted by the set's `id` where it has one, and are in stored order otherwise. `train` becomes `train`; `test`, or
    `validation` in a set without `test`, becomes `test`.

    Args:
      name: as in TFDS: `cifar100`, `imagenet_resized/8x8`, `cifar10:3.0.2`.
      image_size: pixels a side to resize to, cropped to a square; None keeps the set's own.
      allow_download: lets TFDS download what is not in the user's TFDS directory.

    Raises:
      NotPrepared: it is not there, and a download is not allowed.
      Unreachable: it is not there, and cannot be downloaded either.
      NotInstalled: TensorFlow Datasets is not installed.
      UserError: no such set, not an image-classification set, damaged files.
      RunFailed: the child process failed or was killed.
    """
    request: dict[str, Any] = {"name": name, "image_size": image_size}
    directory = prepared_directory(name)
    if directory is None and not allow_download:
        raise NotPrepared(f"{name} is not in {data_dir()}")
    if find_spec("tensorflow_datasets") is None or find_spec("tensorflow") is None:
        raise NotInstalled(
            f"{name} is not in the cache, and TensorFlow Datasets, which fetches and reads it, is not installed."
        )
    if directory is None:
        hosts = run_child({"action": "hosts", **request})["hosts"]
        open_hosts = reachable([BUCKET, *hosts])
        if not open_hosts:
            raise Unreachable(f"{name} is not here, and none of {', '.join(dict.fromkeys([*hosts, BUCKET]))} can be reached.")
        run_child({"action": "download", "bucket": BUCKET in open_hosts, "data_dir": str(data_dir()), **request})
    else:
        run_child({"action": "read", "directory": str(directory), **request})


def prepared_directory(name: str) -> Path | None:
    """The newest version of a set in the user's TFDS directory, or None; TensorFlow is not needed for that.

    Raises:
      UserError: `name` is not a TFDS name, or leaves open which of several configurations is meant.
    """
    parts = NAME.fullmatch(name)
    if parts is None:
        raise ConfigError(f"config.data.name: no data set is called {name!r}; expected one such as cifar100 or folder:PATH")
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
    """Those of `hosts` that answer over HTTPS, proxies honoured, within PROBE_SECONDS for all of them together."""
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

    # Looking a name up knows no timeout, hence threads that may be left behind.
    threads = [threading.Thread(target=probe, args=(host,), daemon=True) for host in dict.fromkeys(hosts)]
    deadline = time.monotonic() + PROBE_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(answered)


def run_child(request: dict[str, Any]) -> dict[str, Any]:
    """Has a child process carry out `request` and returns its answer; what the child shows on stderr is for the user.

    Raises:
      UserError: what the child found wrong with the request.
      RunFailed: it was killed, or failed in some other way.
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
    if "user_error" in answer:
        raise UserError(answer["user_error"])
    if "failure" in answer:
        raise RunFailed(answer["failure"])
    return answer
