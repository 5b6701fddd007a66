import os
import time

from cifar_flax.training.checkpoints.files import saved_steps
from tests.faults.scene import finish

# Python runs a module of this name before anything else.
SITECUSTOMIZE = """
import os, time
offset = float(os.environ["CLOCK_OFFSET"])
now, now_ns, start = time.time, time.time_ns, time.monotonic()
def shift():
    return offset - 3600 * int(time.monotonic() - start)
time.time = lambda: now() + shift()
time.time_ns = lambda: now_ns() + int(1e9 * shift())
"""
DAY = 86400


def test_a_clock_that_jumps_back_changes_nothing(scene, thorough, tmp_path):
    """The clock loses an hour each second; the training is killed once it has saved, and resumes a year earlier."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = {"PYTHONPATH": os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))}
    for _ in range(5 if thorough else 1):
        workdir, cache = scene.fresh("clock"), scene.fresh("cache")
        process = scene.start("train", workdir, cache, **path, CLOCK_OFFSET="0")
        while process.poll() is None and not (event_files(workdir) and saved_steps(workdir)):
            time.sleep(0.005)
        landed, before = process.poll() is None, event_files(workdir)
        process.kill()
        finish(process)
        assert before
        for file in [*workdir.rglob("*"), *cache.rglob("*")]:  # as if that process had run tomorrow
            os.utime(file, (time.time() + DAY, time.time() + DAY))
        done = scene.run("train", workdir, cache, **path, CLOCK_OFFSET=str(-365 * DAY))
        assert done.code == 0, done.errors
        scene.assert_resumes_exactly(workdir, cache)
        assert not landed or min(event_files(workdir)) > max(before)


def event_files(workdir):
    """In the order in which TensorBoard reads them; later ones overrule earlier ones."""
    return sorted(path.name for path in (workdir / "tensorboard").glob("events*"))
