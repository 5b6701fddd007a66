import pytest

from cifar_flax.files.atomic import write_text


def test_what_was_there_stays_when_the_disk_is_full(tmp_path):
    path = tmp_path / "config.json"
    write_text(path, "old")
    (tmp_path / "config.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
