import subprocess
import sys

import pytest

from cifar_flax.files.lock import exclusive_lock

HOLD = "import sys; from cifar_flax.files.lock import exclusive_lock; from pathlib import Path\n"
HOLD += "lock = exclusive_lock(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"


def test_a_lock_keeps_other_processes_out_until_its_holder_dies(tmp_path):
    path = tmp_path / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(BlockingIOError):
        exclusive_lock(path, wait=False)
    holder.kill()
    holder.communicate()
    with exclusive_lock(path):
        pass


def test_a_closed_lock_is_free_and_its_file_keeps_its_content(tmp_path):
    with exclusive_lock(tmp_path / "id") as file:
        file.write("content")
    with exclusive_lock(tmp_path / "id", wait=False) as file:
        file.seek(0)
        assert file.read() == "content"
