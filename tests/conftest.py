import copy
import gc
import logging
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from cifar_flax.config.files import load_config
from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset
from tests.helpers import forked

# Where a restore fails, Orbax leaves tasks behind whose errors are logged when they are collected: within some other test.
logging.getLogger("asyncio").disabled = True
ROOT = Path(__file__).parent.parent
TINY_CONFIG = ROOT / "tests" / "e2e" / "tiny.py"
REAL_TFDS_DIR = os.environ.get("TFDS_DATA_DIR")
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=50)  # the same inputs every time
settings.register_profile("long", deadline=None, max_examples=5000)
settings.load_profile("ci")

TINY_TEST_IMAGES = 103  # not a multiple of any batch size in use


def pytest_configure(config):
    """Tests run on the CPU unless JAX_PLATFORMS says otherwise: each of several processes would take most of a GPU's memory.

    Compiled programs are kept from test to test, for the processes that tests start too: most of their time is XLA's.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a shell's background job, whose commands would ignore it too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir("jax"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    import jax  # which has read its environment already where the conftest.py of a folder of tests imports it

    jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_collection_finish():
    """Spares Python's garbage collection what is imported: half a second each time, of which a search takes one a trial."""
    gc.freeze()


UNOPTIMIZED = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # for commands that compile more than they compute


@pytest.fixture(scope="module")
def unoptimized():
    """The same in this process."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


LONGEST = (  # the slow ones in minutes; the last three of the others
    *("test_readme", "test_configs", "test_gpu", "test_hosts", "test_distillation", "test_seeds"),
    *("test_resume", "test_report", "test_kills", "test_real_training", "test_tfds", "test_commands", "test_onnx_writer"),
)


def pytest_collection_modifyitems(items):
    """The longest files come first, so that no worker ends with one of them while the others have nothing left."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def tiny_split(rows, seed):
    """Ten classes of 8x8 pictures: a bright row or column, in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows, dtype=np.int32) % 10
    images = rng.integers(0, 120, (rows, 8, 8, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        view = image if label < 5 else image.transpose(1, 0, 2)
        view[label % 5 + 1] += 100
    return Dataset(images, labels, tuple(f"line {i}" for i in range(10)))


@pytest.fixture(scope="session")
def shapes100_cache(pytestconfig):
    """A cache folder that keeps shapes100 from test to test, because it takes a while to draw."""
    return str(pytestconfig.cache.mkdir("data"))


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory):
    """A cache folder that holds the set "tiny", for this process and those it starts."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(folder))
        cache.write("tiny", {"train": tiny_split(320, 0), "test": tiny_split(TINY_TEST_IMAGES, 1)}, "tests")
    return folder


@pytest.fixture
def tiny_data(tiny_cache, monkeypatch):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))


@pytest.fixture
def tiny_config():
    """What tests/e2e/tiny.py trains, for training in this process."""
    return load_config(str(TINY_CONFIG))


@pytest.fixture(scope="session")
def tiny_run(tiny_cache, tmp_path_factory):
    """A run of tests/e2e/tiny.py."""
    from cifar_flax.config.serialize import validated
    from cifar_flax.training.loop import train

    folder = tmp_path_factory.mktemp("run") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        train(validated(load_config(str(TINY_CONFIG))), folder)
    return folder


@pytest.fixture(scope="session")
def make_network():
    """Makes small networks with random weights."""
    import jax
    import jax.numpy as jnp

    from cifar_flax.data.preprocessing import Preprocessing
    from cifar_flax.models import create_model, initialize
    from cifar_flax.network import Network

    config = load_config(str(TINY_CONFIG))

    def make(image_shape=(8, 8, 3), classes=10, coarse=True):
        channels = image_shape[2]
        preprocessing = Preprocessing(
            image_shape,
            tuple(f"line_{i}" for i in range(classes)),
            ("rows", "columns") if coarse else (),
            tuple(2 * i // classes for i in range(classes)) if coarse else (),
            (0.5, 0.4, 0.3)[:channels],
            (0.1, 0.2, 0.3)[:channels],
        )
        images = jax.random.normal(jax.random.key(1), (4, *image_shape), jnp.float32)
        variables = initialize(create_model(config.model, classes), jax.random.key(0), images)
        return Network(copy.deepcopy(config), preprocessing, variables, "tiny")  # a test may change it

    return make


@pytest.fixture
def launch(tiny_cache, tmp_path):
    """Runs `python launch/NAME.py ARGS` to its end in a process of its own, in an empty folder.

    With options of `subprocess.run`, or variables that Python and JAX read when they start, it starts anew; otherwise it is
    forked from a process that has imported JAX.
    """

    def run(name, *args, env=None, timeout=600, errors="strict", **options):
        environment = {
            **os.environ,
            "CIFAR_FLAX_CACHE": str(tiny_cache),
            "TFDS_DATA_DIR": str(tmp_path / "none"),
            **(env or {}),
        }
        command = [str(ROOT / "launch" / f"{name}.py"), *map(str, args)]
        if options or any(variable.startswith(("PYTHON", "JAX")) for variable in env or {}):
            return subprocess.run(
                [sys.executable, *command],
                check=False,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                errors=errors,
                timeout=timeout,
                **options,
            )
        return forked.run(command, timeout, cwd=tmp_path, env=environment, errors=errors)

    return run


@pytest.fixture(scope="session")
def real_tfds_dir():
    """The directory with the real CIFAR-100, where the tests were started with one."""
    if not REAL_TFDS_DIR or not os.path.isdir(os.path.join(REAL_TFDS_DIR, "cifar100")):
        missing = "TFDS_DATA_DIR is not set to a directory with cifar100 in it"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return os.path.abspath(REAL_TFDS_DIR)


@pytest.fixture(scope="session")
def cifar100_cache(pytestconfig, real_tfds_dir):
    """A cache folder that keeps the real CIFAR-100 from test to test, because TFDS takes most of a minute to read it."""
    from cifar_flax.data.sources import tfds

    folder = str(pytestconfig.cache.mkdir("data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", folder)
        patch.setenv("TFDS_DATA_DIR", real_tfds_dir)
        if cache.read("cifar100", "test") is None:
            tfds.prepare("cifar100")
    return folder


@pytest.fixture(scope="session")
def postgresql():
    """A running PostgreSQL server, which a test that stops it starts again."""
    from tests.helpers import postgresql

    binaries = postgresql.find_binaries()
    if binaries is None:
        missing = "there is no PostgreSQL server here (Debian: apt-get install postgresql)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    server = postgresql.Server(binaries)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def database(postgresql):
    """The URL of an empty database on it."""
    name = f"search_{uuid.uuid4().hex}"
    postgresql.execute(f"CREATE DATABASE {name} ENCODING UTF8 TEMPLATE template0")
    return postgresql.url(name)
