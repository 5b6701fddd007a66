import time

from cifar_flax.files.checksum import read_checksummed
from tests.faults.scene import finish


def test_trainings_killed_at_random_moments_end_exactly(scene, rng, thorough):
    """Moments are drawn from the life of an undisturbed training, with an empty data cache to begin with."""
    landed = 0
    while landed < (30 if thorough else 2):
        workdir, cache = scene.fresh("killed"), scene.fresh("cache")
        for _ in range(3 if thorough else 2):  # kills before it may end
            process = scene.start("train", workdir, cache)
            time.sleep(rng.uniform(0, scene.seconds["train"]))
            if process.poll() is None:  # the rest of a run takes less time than all of it
                process.kill()
                landed += 1
            finish(process)
        scene.assert_resumes_exactly(workdir, cache)


def test_trainings_killed_while_they_write_a_checkpoint_end_exactly(scene, rng, thorough):
    """Kills while the data cache is written are those of tests/data/test_cache.py."""
    workdir, cache = scene.fresh("killed"), scene.fresh("cache")
    kills, hits, attempts = 5 if thorough else 1, 0, 0
    while hits < kills and attempts < 10 * kills:
        attempts += 1
        hits += kill_while_saving(scene, workdir, cache, skip=int(rng.integers(0, 2)))
    assert hits
    scene.assert_resumes_exactly(workdir, cache)


def kill_while_saving(scene, workdir, cache, skip):
    """Kills a training as soon as it writes a checkpoint, after `skip` others; returns whether it did."""
    left = unfinished(workdir)  # by an earlier kill
    process, seen = scene.start("train", workdir, cache), set(left)
    while process.poll() is None:
        seen |= unfinished(workdir)
        if len(seen) > len(left) + skip:
            process.kill()
            finish(process)
            return True
        time.sleep(0)
    finish(process)
    return False


def unfinished(workdir):
    return {path.name for path in (workdir / "checkpoints").glob("*orbax-checkpoint-tmp*")}


def test_a_killed_evaluation_leaves_the_report_complete(scene, rng, thorough):
    workdir = scene.undisturbed.copy(scene.fresh("evaluated"))
    for _ in range(5 if thorough else 1):
        process = scene.start("evaluate", workdir, scene.undisturbed.cache)
        time.sleep(rng.uniform(0, scene.seconds["evaluate"]))
        process.kill()
        finish(process)
        assert read_checksummed(workdir / "report" / "test.json") == scene.undisturbed.scores
    scene.assert_evaluates_exactly(workdir)
