"""Environment of a run: versions, devices, commit, command."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
from absl import logging

from cifar_flax._version import __version__
from cifar_flax.config import Config
from cifar_flax.config.serialize import to_dict
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from cifar_flax.files.redact import redact_passwords
from cifar_flax.runtime import compilation
from cifar_flax.runtime.processor import cpu_flags, cpu_model

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "clu", "ml-collections", "numpy")


def describe_environment() -> dict[str, Any]:
    """Versions, devices, git commit of the code (None outside a checkout), command line, time and XLA flags, for JSON."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [Path(sys.executable).name, *map(redact_passwords, sys.argv)],
        "cifar_flax": __version__,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cpu_flags": cpu_flags(),
        "cpus": os.cpu_count(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "backend": jax.default_backend(),
        "fast_bfloat16": compilation.multiplies_bfloat16_fast(),
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def write_environment(path: Path, config: Config) -> None:
    """Writes this session's environment, with a copy of the config, and the sessions that it continues under "earlier"."""
    now, earlier = describe_environment(), _earlier(path)
    if earlier and earlier[-1].get("backend") != now["backend"]:
        logging.warning(
            "%s: trained on %s until now, and goes on on %s: numbers differ in their last bits",
            *(path.parent, earlier[-1].get("backend"), now["backend"]),
        )
    write_text(path, dumps_checksummed({**now, "config": to_dict(config), "earlier": earlier}))


def _earlier(path: Path) -> list[dict[str, Any]]:
    try:
        last = read_checksummed(path)
        last.pop("config", None)
        sessions = [*last.pop("earlier", ()), last]
        if not all(isinstance(session, dict) for session in sessions):
            raise ValueError("a session is no object")
        return sessions
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as e:
        logging.warning("%s: damaged: %s; what it said of earlier sessions is left out", path, e)
        return []


def _git(*args: str) -> str | None:
    try:
        result = subprocess.run(  # nosec B603, B607 # whichever git there is, with arguments of our own
            ["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
