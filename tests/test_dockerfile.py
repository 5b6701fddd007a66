import subprocess
import sys

from tests.conftest import ROOT


def test_the_image_is_built_from_all_that_setup_py_packages(tmp_path):
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert "\nCOPY . .\n" in (ROOT / "Dockerfile").read_text()
    for name in sent:
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "setup.py", "--quiet", "egg_info"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    files = (tmp_path / "cifar_flax.egg-info" / "SOURCES.txt").read_text().splitlines()
    assert {"LICENSE", "configs/fast.py", "launch/serve.py", "cifar_flax/pretrained/fast.safetensors"} <= set(files)
