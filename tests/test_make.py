import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture
def make(tmp_path):
    """Runs `make .../bin/python` where the only Pythons are those in `bin/`, on the PATH, and those of pyenv in `pyenv/`."""
    for folder in ("bin", "pyenv/versions"):
        (tmp_path / folder).mkdir(parents=True)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("make", "sh", "ls", "sort", "touch"):
        (tools / tool).symlink_to(shutil.which(tool))

    def run(target="bin/python", *flags):
        environment = {"PATH": f"{tmp_path / 'bin'}:{tools}", "PYENV_ROOT": str(tmp_path / "pyenv"), "HOME": str(tmp_path)}
        venv = tmp_path / "venv"
        command = ["make", "--no-print-directory", "-C", str(ROOT), f"{venv}/{target}", f"VENV={venv}", *flags]
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)

    return run


def install(path, succeeds=True):
    """A Python, or a shim of pyenv's, which fails where its version is not selected."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n' if succeeds else "#!/bin/sh\nexit 127\n")
    path.chmod(0o755)


def test_the_newest_python_that_works_is_taken_and_named(make, tmp_path):
    install(tmp_path / "bin" / "python3.13", succeeds=False)
    install(tmp_path / "bin" / "python3.11")
    install(tmp_path / "pyenv" / "versions" / "3.12.9" / "bin" / "python", succeeds=False)
    install(tmp_path / "pyenv" / "versions" / "3.12.10" / "bin" / "python")
    made = make()
    assert made.returncode == 0, made.stderr
    version = ".".join(map(str, sys.version_info[:3]))
    assert made.stdout.startswith(f"{tmp_path}/venv: Python {version} of ")
    assert (tmp_path / "venv" / "bin" / "python").exists()


def test_a_python_that_is_named_is_taken_wherever_it_is(make, tmp_path):
    install(tmp_path / "bin" / "python3.13", succeeds=False)
    install(tmp_path / "pyenv" / "versions" / "3.11.7" / "bin" / "python")
    made = make("made-with-python3.11", "PYTHON=python3.11")
    assert made.returncode == 0, made.stderr
    assert make("made-with-python3.11", "PYTHON=python3.11").stdout.endswith("is up to date.\n")
    refused = make("made-with-python3.12", "PYTHON=python3.12")
    assert refused.stderr.startswith("no usable python3.12: expected 3.11 or later with venv and ensurepip")


def test_without_any_python_one_line_says_what_to_install(make):
    refused = make()
    assert refused.returncode == 2
    line, end = refused.stderr.splitlines()
    assert line.startswith(
        "no usable Python: expected 3.11 or later with venv and ensurepip, on PATH, in pyenv or in uv; install"
    )
    assert end.startswith("make: ***")
