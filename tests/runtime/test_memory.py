import resource
import subprocess
import sys

import pytest

from cifar_flax.runtime.memory import cgroup_limits

START = "from cifar_flax.runtime import startup\nstartup.start()\nprint('started')"


@pytest.mark.parametrize(("megabytes", "enough"), [(500, False), (1500, False), (6000, True)])
def test_too_little_memory_costs_a_line_before_anything_is_loaded(megabytes, enough):
    limit = (megabytes << 20, resource.getrlimit(resource.RLIMIT_AS)[1])
    done = subprocess.run(
        [sys.executable, "-c", START],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),  # no threads hold locks here
    )
    assert (done.returncode == 0, "started" in done.stdout) == (enough, enough), done.stderr
    assert enough or (done.returncode == 2 and f"memory: this process may map {megabytes} MB" in done.stderr)
    assert len(done.stderr.splitlines()) == (not enough)


@pytest.mark.parametrize(
    ("line", "file", "content", "expected"),
    [
        ("0::/job/7", "job/7/memory.max", "524288000\n", [524288000]),
        ("0::/job/7", "job/memory.max", "524288000\n", [524288000]),
        ("0::/job/7", "memory.max", "max\n", []),
        ("4:cpu,memory:/job", "memory/job/memory.limit_in_bytes", "524288000\n", [524288000]),
        ("3:cpu:/job", "memory/job/memory.limit_in_bytes", "524288000\n", []),
        ("0::/../../x", "memory.max", "524288000\n", [524288000]),
    ],
)
def test_limits_of_control_groups_are_read(tmp_path, line, file, content, expected):
    (tmp_path / "cgroup").write_text(line + "\n")
    path = tmp_path / "mount" / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert list(cgroup_limits(tmp_path / "cgroup", tmp_path / "mount")) == expected


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert list(cgroup_limits(tmp_path / "none", tmp_path)) == []
