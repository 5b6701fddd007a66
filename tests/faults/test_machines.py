"""Machines that are set up otherwise: environments of other programs, paths, file systems without locks, renames that fail."""

import errno
import os

import pytest

from tests.faults.scene import content, finish

ENVIRONMENTS = {
    "float64": {"JAX_ENABLE_X64": "1"},
    "strict promotion": {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"},
    "other keys": {"JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_THREEFRY_PARTITIONABLE": "0"},
    "debugging": {"JAX_DISABLE_JIT": "1", "JAX_DEBUG_NANS": "1", "JAX_CHECK_TRACER_LEAKS": "1"},
    "a terminal without Unicode": {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "TZ": "nowhere"},
    "no home": {"HOME": "/nonexistent", "MPLBACKEND": "none"},
}
PATHS = ["[x]", "a*b?c", "100% #1", "{a} \n", "é", "**"]
REFUSED_PATHS = ["a\\b", os.fsdecode(b"\xff"), "gs:/x"]

# Python runs a module of this name before anything else.
WITHOUT_LOCKS = """
import errno, fcntl, os
def flock(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
"""
WITH_A_RENAME_THAT_FAILS = """
import os
left, code = int(os.environ["RENAMES"]), int(os.environ["ERRNO"])
def failing(rename):
    def call(source, target, **options):
        global left
        left -= 1
        if left == 0 and "compilations" not in os.fspath(target):
            raise OSError(code, os.strerror(code), source, None, target)
        return rename(source, target, **options)
    return call
os.replace, os.rename = failing(os.replace), failing(os.rename)
"""


def chosen(rng, thorough, values, few):
    values = list(values)
    return values if thorough else [values[i] for i in rng.choice(len(values), few, replace=False)]


@pytest.fixture
def python_with(tmp_path):
    """The environment of a Python that runs this code first."""

    def make(code):
        (tmp_path / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))}

    return make


def assert_trains_exactly(scene, workdir, **environment):
    done = scene.run("train", workdir, scene.undisturbed.cache, **environment)
    assert done.code == 0, done.errors[-2000:]
    expected = scene.undisturbed.content
    for part, value in content(workdir).items():
        assert value == expected[part], f"{part} differs"
    return done.errors


def test_environments_of_other_programs_change_nothing(scene, rng, thorough):
    for name in chosen(rng, thorough, ENVIRONMENTS, 1):
        assert_trains_exactly(scene, scene.fresh("run"), **ENVIRONMENTS[name])


def test_a_run_lies_under_any_path_or_is_refused_before_it_begins(scene, rng, thorough):
    for name in chosen(rng, thorough, PATHS, 1):
        assert_trains_exactly(scene, scene.fresh("path") / name / "run")
        scene.assert_evaluates_exactly(scene.undisturbed.copy(scene.fresh("path") / name / "run"))
    for name in chosen(rng, thorough, REFUSED_PATHS, 1):
        folder = scene.fresh("path")
        scene.run("train", folder / name / "run", scene.undisturbed.cache).assert_stopped()
        assert not folder.exists()


def test_a_file_system_without_locks_is_warned_of(scene, python_with):
    errors = assert_trains_exactly(scene, scene.fresh("run"), **python_with(WITHOUT_LOCKS))
    assert "this file system has no locks" in errors


def test_a_rename_that_fails_loses_nothing(scene, rng, thorough, python_with):
    path = python_with(WITH_A_RENAME_THAT_FAILS)
    for _ in range(10 if thorough else 1):
        workdir, code = scene.fresh("run"), int(rng.choice([errno.EIO, errno.ESTALE, errno.EBUSY]))
        renames = str(rng.integers(1, 60))
        done = finish(scene.start("train", workdir, scene.undisturbed.cache, **path, RENAMES=renames, ERRNO=str(code)))
        if done.code:
            done.assert_stopped()
        scene.assert_resumes_exactly(workdir, scene.undisturbed.cache)
