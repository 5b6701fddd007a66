import os
import resource
import stat
from contextlib import contextmanager

import pytest

from cifar_flax.files.atomic import write_bytes, write_text


@contextmanager
def files_of_at_most(size):
    """Files of this process cannot grow beyond `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failed_write_keeps_the_old_content_and_names_the_file(tmp_path):
    path = tmp_path / "config.json"
    write_text(path, "old")
    with files_of_at_most(10), pytest.raises(OSError, match="File too large") as error:
        write_bytes(path, bytes(1000))
    assert error.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "config.json", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) == 0o640
