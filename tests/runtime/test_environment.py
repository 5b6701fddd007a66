import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from cifar_flax.run import load_network
from cifar_flax.runtime.environment import check_xla_flags

COMMAND = """
from cifar_flax.runtime import startup
startup.start()
import jax
from cifar_flax.runtime import app
from cifar_flax.runtime.compilation_cache import enable_persistent_cache
def main():
    enable_persistent_cache()
    print("é", jax.numpy.zeros(3, float).dtype, (jax.numpy.uint8(1) + jax.numpy.float32(1)).dtype)
app.run(main)
"""
SOUND = "é float32 float32\n"


def run(**environment):
    return subprocess.run(
        [sys.executable, "-c", COMMAND],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=600,
    )


def test_settings_of_other_programs_change_nothing_and_are_named():
    settings = {"JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_DEFAULT_PRNG_IMPL": "no such"}
    done = run(**settings, MPLBACKEND="none")
    assert (done.returncode, done.stdout) == (0, SOUND), done.stderr
    assert all(f"{name}={value}" in done.stderr for name, value in settings.items())
    assert "MPLBACKEND" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JAX_PLATFORMS", "cuda,tpu" if jax.default_backend() == "cpu" else "metal", "JAX_PLATFORMS="),
        ("JAX_PLATFORMS", "nonsense", "JAX_PLATFORMS=nonsense: not available here"),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=1 --xla_nonsense=1", "XLA_FLAGS: .*--xla_nonsense"),
        ("XLA_FLAGS", "--xla_backend_optimization_level=low", "XLA_FLAGS: .*value low for flag xla_backend_optimization_level"),
        ("XLA_FLAGS", "--xla_backend_optimization_level=٣", "XLA_FLAGS: "),
        ("XLA_FLAGS", "nonsense", "XLA_FLAGS: "),
    ],
)
def test_a_setting_without_which_nothing_runs_is_named_in_a_line(name, value, said):
    done = run(**{name: value})
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert said.partition(".*")[0] in done.stderr
    assert said.rpartition(".*")[2] in done.stderr


def test_flags_that_every_xla_has_are_not_tried_in_another_process(monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    check_xla_flags("--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0")


def test_letters_that_a_terminal_lacks_are_escaped():
    done = run(PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "\\xe9 float32 float32\n"), done.stderr


@pytest.mark.parametrize(
    "setting",
    [
        lambda: jax.enable_x64(True),
        lambda: jax.numpy_dtype_promotion("strict"),
        lambda: jax.numpy_rank_promotion("raise"),
        lambda: jax.default_matmul_precision("bfloat16"),
        lambda: jax.disable_jit(True),
        lambda: jax.debug_nans(True),
    ],
    ids=["x64", "strict", "rank", "matmul", "no jit", "nans"],
)
def test_a_network_computes_the_same_in_a_notebook_that_sets_jax_otherwise(setting):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    expected = load_network("fast").logits(images)
    with setting():
        actual = load_network("fast").logits(images)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize("setting", [lambda: jax.enable_x64(True), lambda: jax.default_prng_impl("rbg")], ids=["x64", "rbg"])
def test_a_run_is_trained_and_read_the_same_in_such_a_notebook(setting, tiny_data, tiny_config, tiny_run, tmp_path):
    from cifar_flax.config.serialize import validated
    from cifar_flax.run import Run
    from cifar_flax.training.loop import train

    with setting():
        train(validated(tiny_config), tmp_path / "run")
        for which in ("best", "latest"):
            actual, expected = Run.open(tmp_path / "run").network(which), Run.open(tiny_run).network(which)
            assert actual.step == expected.step
            jax.tree.map(np.testing.assert_array_equal, actual.variables, expected.variables)
            assert actual.evaluate("test") == expected.evaluate("test")
