"""The network in docs/extending.md, and the commands below it."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_network_of_the_page_trains_and_is_evaluated(shapes100_cache, tmp_path):
    page = (ROOT / "docs" / "extending.md").read_text()
    (tmp_path / "my_network.py").write_text(re.search(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1])
    train, evaluate = re.findall(r"^python launch/(.*my_network)$", page, re.MULTILINE)
    environment = {**os.environ, "CIFAR_FLAX_CACHE": shapes100_cache}
    for command in (f"{train} --config.train.epochs=0.02", f"{evaluate} --noreport"):
        script, *arguments = shlex.split(command)
        typed = [sys.executable, str(ROOT / "launch" / script), *arguments]
        done = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "top-1" in done.stdout
