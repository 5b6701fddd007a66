import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT, TINY_CONFIG

CODE = f"""
import sys
from pathlib import Path
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import validated
from cifar_flax.runtime.compilation_cache import enable_persistent_cache
from cifar_flax.training.loop import train
from tests.helpers.compilation_counter import CompilationCounter

seed, steps_per_dispatch = map(int, sys.argv[1:])
config = load_config({str(TINY_CONFIG)!r})
config.seed, config.train.steps_per_dispatch, config.checkpoint.every_steps = seed, steps_per_dispatch, None
enable_persistent_cache()
with CompilationCounter() as counter:
    train(validated(config), Path(f"run{{seed}}"))
print("compiled", counter.compiled, "loaded", counter.loaded)
"""


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_dispatch", [1, 6])
def test_with_a_warm_cache_another_seed_compiles_nothing(steps_per_dispatch, tiny_cache, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {
        "CIFAR_FLAX_CACHE": str(tiny_cache),
        "CIFAR_FLAX_COMPILATION_CACHE": str(tmp_path / "programs"),
        "PYTHONPATH": str(ROOT),
    }

    def train(seed):
        command = [sys.executable, "-c", CODE, str(seed), str(steps_per_dispatch)]
        output = subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
        words = output.splitlines()[-1].split()
        return int(words[1]), int(words[3])

    compiled, _ = train(0)
    assert compiled > 0
    compiled_again, loaded = train(1)
    assert compiled_again == 0
    assert loaded >= compiled
