import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMESPACE = ("unshare", "--map-root-user", "--mount")  # takes no root; mounts vanish with the process


def test_full_and_read_only_disks_cost_one_line(thorough):
    """Runs `disks.py` in a namespace in which it may mount."""
    mount = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("tmpfs cannot be mounted in a namespace here")
    tests = Path(__file__).with_name("disks.py")
    some = [] if thorough else ["-m", "not thorough"]
    command = [*NAMESPACE, sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *some, str(tests)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
