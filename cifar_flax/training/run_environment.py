"""What a run was made with: versions, devices, commit, command."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax

from cifar_flax._version import __version__
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


def _git(*args: str) -> str | None:
    try:
        result = subprocess.run(  # nosec B603, B607 # whichever git there is, with arguments of our own
            ["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
