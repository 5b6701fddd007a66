"""Faults injected into trainings, caches and weights: kills, full and read-only disks, a clock that jumps, damaged files.

`make test-slow` injects a few of each kind; `make torture` (pytest tests/faults --thorough) injects many.
"""

import os

import numpy as np
import pytest

from tests.faults.scene import Scene


def pytest_addoption(parser):
    parser.addoption("--thorough", action="store_true", help="inject many faults of each kind: ten minutes on two cores")
    parser.addoption("--fault-seed", type=int, default=0, help="chooses moments, files and bits")


def pytest_collection_modifyitems(items):
    for item in items:
        if "/tests/faults/" in str(item.path):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def thorough(pytestconfig):
    return pytestconfig.getoption("--thorough", default=False)


@pytest.fixture
def rng(pytestconfig, request):
    """Random numbers of the test's own, whichever other tests run."""
    return np.random.default_rng([pytestconfig.getoption("--fault-seed", default=0), *request.node.name.encode()])


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    return Scene(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def cache_at(monkeypatch):
    """Sets the data cache of this process."""
    return lambda folder: monkeypatch.setitem(os.environ, "CIFAR_FLAX_CACHE", str(folder))
