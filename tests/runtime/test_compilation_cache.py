import errno
import os
import subprocess
import sys
from unittest.mock import Mock

import pytest

from cifar_flax.errors import UserError
from cifar_flax.runtime.compilation_cache import VerifiedCache, chosen_folder
from tests.conftest import ROOT

PROGRAM = """
import hashlib
import numpy as np
from cifar_flax.runtime import compilation
from cifar_flax.runtime.compilation_cache import enable_persistent_cache
from tests.helpers.compilation_counter import CompilationCounter
folder = enable_persistent_cache()
import jax, jax.numpy as jnp
def network(x, w):
    y = jax.nn.elu(jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    return jax.nn.log_softmax(y.mean((1, 2)))
with CompilationCounter() as counter:
    x, w = (np.random.default_rng(0).normal(size=size).astype(np.float32) for size in ((4, 8, 8, 3), (3, 3, 3, 8)))
    step = compilation.jit(jax.grad(lambda w, x: network(x, w)[:, 0].sum()))
    result = np.asarray(step(jnp.asarray(w) * 2, jnp.asarray(x)))
print(folder is not None, counter.compiled, counter.loaded, hashlib.sha256(result.tobytes()).hexdigest())
"""


@pytest.fixture
def run(tmp_path):
    """Runs PROGRAM in a process of its own; returns whether it has a cache, programs compiled and loaded, and its result."""

    def run(setting="on", **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        kept |= {"CIFAR_FLAX_CACHE": str(tmp_path), "CIFAR_FLAX_COMPILATION_CACHE": setting, **environment}
        done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, cwd=ROOT, env=kept, capture_output=True, timeout=600)
        cached, compiled, loaded, result = done.stdout.decode().split()
        return cached == "True", int(compiled), int(loaded), result

    return run


def entries(folder):
    return sorted(path for path in folder.rglob("jit*") if path.is_file())


def test_a_second_process_compiles_nothing_and_computes_the_same_bits(run, tmp_path):
    _, compiled, _, without = run("off")
    assert compiled > 0
    assert not (tmp_path / "compilations").exists()
    assert run() == (True, compiled, 0, without)
    assert len(entries(tmp_path / "compilations")) == compiled
    assert run() == (True, 0, compiled, without)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: content[:900] + b"\1" + content[901:],
        lambda content: content[:500],
        lambda content: b"",
    ],
    ids=["a flipped bit", "a missing tail", "nothing left"],
)
def test_a_damaged_entry_is_none(tmp_path, damaged):
    cache = VerifiedCache(tmp_path)
    cache.put("a", bytes(2000))
    (tmp_path / "a").write_bytes(damaged((tmp_path / "a").read_bytes()))
    assert cache.get("a") is None
    assert not (tmp_path / "a").exists()


def test_a_damaged_entry_is_compiled_again_and_replaced(run, tmp_path):
    folder = str(tmp_path / "mine")
    _, compiled, _, result = run(folder)
    for entry in entries(tmp_path / "mine"):
        entry.write_bytes(entry.read_bytes()[:-1])
    assert run(folder) == (True, compiled, 0, result)
    assert run(folder) == (True, 0, compiled, result)


def test_a_cache_that_the_user_has_in_jax_stays(run, tmp_path):
    environment = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    run(**environment)
    assert list((tmp_path / "jax").glob("*-cache"))
    assert not (tmp_path / "compilations").exists()


def test_a_folder_that_others_may_write_is_not_used(run, tmp_path):
    run()
    (folder,) = (tmp_path / "compilations").iterdir()
    folder.chmod(0o777)
    cached, compiled, loaded, _ = run()
    assert (cached, loaded) == (False, 0)
    assert compiled > 0


def test_a_folder_that_cannot_be_made_costs_the_cache_alone(run, tmp_path):
    (tmp_path / "compilations").write_text("a file")
    assert run()[0] is False


def test_the_setting_is_on_off_or_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tmp_path))
    assert chosen_folder("off") is None
    assert chosen_folder("on").parent == tmp_path / "compilations"
    assert chosen_folder("/tmp/programs").parent.as_posix() == "/tmp/programs"
    with pytest.raises(UserError, match="CIFAR_FLAX_COMPILATION_CACHE=yes: expected on, off or a folder"):
        chosen_folder("yes")


def test_the_least_recently_used_entries_make_room(tmp_path):
    cache = VerifiedCache(tmp_path, max_bytes=350)  # three entries of 68 + 32 bytes
    for i, key in enumerate("abc"):
        cache.put(key, key.encode() * 68)
        os.utime(tmp_path / key, (i, i))
    assert cache.get("a") == b"a" * 68  # used just now
    cache.put("d", b"d" * 68)
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_programs_in_a_folder_that_may_only_be_read_are_found(tmp_path, monkeypatch):
    cache = VerifiedCache(tmp_path)
    cache.put("a", b"a")
    monkeypatch.setattr(os, "utime", Mock(side_effect=OSError(errno.EROFS, os.strerror(errno.EROFS))))
    assert cache.get("a") == b"a"


def test_an_entry_that_cannot_be_written_is_not_kept(tmp_path):
    cache = VerifiedCache(tmp_path / "none")
    cache.put("a", b"a")
    assert cache.get("a") is None
