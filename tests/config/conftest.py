"""Modules that tests import from their own folders."""

import sys

import pytest


@pytest.fixture
def restored_modules(monkeypatch, tmp_path):
    """Modules that a test imports from its folder are forgotten, and Python's path is as before.

    Others stay: a package with compiled parts, as NumPy is, cannot be imported twice.
    """
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        if any(place and place.startswith(str(tmp_path)) for place in places):
            del sys.modules[name]
