import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from cifar_flax import Run
from cifar_flax.errors import RERUN_HINT
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.training.records import read_records
from tests.conftest import ROOT, TINY_CONFIG, UNOPTIMIZED
from tests.helpers.runs import wait_for_step

pytestmark = pytest.mark.slow
STEPS = 27  # 3 epochs of 290 images in batches of 32
TIMEOUT = 400
COMMAND = [
    str(ROOT / "launch" / "train.py"),
    f"--config={TINY_CONFIG}",
    "--workdir=run",
    "--config.train.epochs=3",
]

HASTY = """
import runpy, sys
from cifar_flax.runtime import multihost
multihost.SHARED_SECONDS = 5
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def starting(cache, folder):
    """Gives a function that starts two processes of `launch/train.py` with two devices each: together they train `run`.

    The second one has other arguments, and another working directory, where they are given; both may run other code of Python.
    """
    started = []

    def start(*args, of_second=(), second_in=folder, python=()):
        address = f"127.0.0.1:{free_port()}"
        for process in range(2):
            hosts = [f"--coordinator={address}", "--num_processes=2", f"--process_id={process}"]
            started.append(
                subprocess.Popen(
                    [sys.executable, *python, *COMMAND, *hosts, *args, *(of_second if process else ())],
                    cwd=second_in if process else folder,
                    env=environment(cache, devices=2),
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
        return started[-2:]

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.communicate()


def environment(cache, devices):
    return {
        **os.environ,
        "CIFAR_FLAX_CACHE": str(cache),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {UNOPTIMIZED['XLA_FLAGS']}",
    }


@pytest.fixture
def start(tiny_cache, tmp_path):
    with starting(tiny_cache, tmp_path) as start:
        yield start


def ended(processes):
    """(exit code, stderr) of each."""
    return [(process.communicate(timeout=TIMEOUT)[1], process.returncode)[::-1] for process in processes]


def losses(workdir):
    return [record["loss"] for record in read_records(workdir) if record["kind"] == "step"]


@pytest.fixture(scope="module")
def whole(tiny_cache, tmp_path_factory):
    """A run of one process with four devices."""
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run([sys.executable, *COMMAND], check=True, cwd=folder, env=environment(tiny_cache, devices=4), timeout=TIMEOUT)
    return folder / "run"


@pytest.fixture(scope="module")
def shared(tiny_cache, tmp_path_factory):
    """A run of two processes with two devices each, undisturbed."""
    folder = tmp_path_factory.mktemp("shared")
    with starting(tiny_cache, folder) as start:
        assert ended(start()) == [(0, ""), (0, "")]
    return folder / "run"


def test_two_processes_train_as_one_does_and_their_checkpoint_opens_in_one(shared, whole, tiny_data):
    assert len(losses(shared)) == STEPS
    np.testing.assert_allclose(losses(shared), losses(whole), rtol=1e-5)
    assert len(read_checksummed(shared / "environment.json")["devices"]) == 4
    ours, theirs = (Run.open(run).evaluate("test", "latest") for run in (shared, whole))
    assert ours["n"] == 103
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    assert list((shared / "tensorboard").glob("events*")), "the first process writes TensorBoard"


def test_seeds_in_one_program_are_spread_over_both_processes_and_go_on(start, shared, tmp_path):
    seeds = ("--config.train.num_seeds=2", "--config.train.vmap_seeds=true")
    assert ended(start(*seeds, "--config.train.epochs=2")) == [(0, ""), (0, "")]
    assert ended(start(*seeds)) == [(0, ""), (0, "")]
    assert len(losses(tmp_path / "run" / "seed1")) == STEPS
    np.testing.assert_allclose(losses(tmp_path / "run" / "seed0"), losses(shared), rtol=1e-4)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_and_the_run_goes_on_exactly(killed, start, shared, tmp_path):
    processes = start()
    wait_for_step(tmp_path / "run", 12, *processes)
    processes[killed].kill()
    [(code, stderr)] = ended([processes[1 - killed]])
    assert code == 75
    assert stderr.splitlines() == [
        "another process of this training has died or is out of reach; run the same command on all to go on"
    ]
    assert len(losses(tmp_path / "run")) < STEPS, "the killed process was to be missed"

    assert ended(start()) == [(0, ""), (0, "")]
    assert losses(tmp_path / "run") == losses(shared)
    params, undisturbed = (jax.tree.leaves(Run.open(run).params("latest")) for run in (tmp_path / "run", shared))
    for left, right in zip(params, undisturbed, strict=True):
        np.testing.assert_array_equal(left, right)


def test_sigterm_to_one_process_has_all_of_them_save_the_same_step(start, tmp_path):
    processes = start("--config.train.epochs=400")
    wait_for_step(tmp_path / "run", 8, *processes)
    processes[1].send_signal(signal.SIGTERM)
    (code0, told), (code1, signalled) = ended(processes)
    assert (code0, code1) == (75, 75)
    saved = Run.open(tmp_path / "run").step("latest")
    assert saved == len(losses(tmp_path / "run"))
    assert told == f"another process is told to stop: saved at step {saved} in {tmp_path / 'run'}; {RERUN_HINT}\n"
    assert signalled == f"SIGTERM: saved at step {saved} in {tmp_path / 'run'}; {RERUN_HINT}\n"


@pytest.mark.parametrize(
    ("flag", "what"),
    [("--config.train.dtype=auto", "its config"), ("--config.train.num_seeds=2", "its config"), ("--restart", "--restart")],
)
def test_processes_that_were_given_different_flags_are_refused_by_all(flag, what, start, tmp_path):
    """Each of these decides which exchanges follow, in which the processes would wait for each other."""
    ends = ended(start(of_second=[flag]))
    expected = f"process 1 differs from process 0 in {what}; all train one run, of one config and data\n"
    assert ends == [(2, expected)] * 2
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_config_is_refused_by_all_processes(start, whole, tmp_path):
    os.symlink(whole, tmp_path / "run")
    for code, stderr in ended(start("--config.optim.learning_rate=0.5")):
        assert code == 2
        assert "config.optim.learning_rate" in stderr
        assert "Traceback" not in stderr


@pytest.mark.parametrize("field", ["init_from", "teacher"])
def test_a_network_to_begin_with_that_one_host_lacks_is_a_mistake_on_all(start, whole, tmp_path, field):
    (tmp_path / "second").mkdir()
    os.symlink(whole, tmp_path / "other")
    arguments = (f"--config.train.{field}=other", f"--workdir={tmp_path / 'run'}")
    (first_code, first), (second_code, second) = ended(start(*arguments, second_in=tmp_path / "second"))
    assert (first_code, second_code) == (2, 2)
    assert first == f"process 1: config.train.{field}: other: no such run directory; expected one, or pretrained:NAME\n"
    assert second == first.removeprefix("process 1: ")


@pytest.mark.parametrize("field", ["init_from", "teacher"])
def test_hosts_that_begin_with_other_weights_are_refused(start, whole, shared, tmp_path, field):
    (tmp_path / "second").mkdir()
    os.symlink(whole, tmp_path / "other")
    os.symlink(shared, tmp_path / "second" / "other")
    arguments = (f"--config.train.{field}=other", f"--workdir={tmp_path / 'run'}")
    for code, stderr in ended(start(*arguments, second_in=tmp_path / "second")):
        assert code == 2
        assert stderr.startswith(f"process 1 differs from process 0 in the weights of config.train.{field}; all train one run")


def test_hosts_that_do_not_share_the_run_directory_are_refused(start, tmp_path):
    (tmp_path / "second").mkdir()
    (first_code, first), (second_code, second) = ended(start(second_in=tmp_path / "second", python=("-c", HASTY)))
    assert (first_code, second_code) == (2, 2)
    place = tmp_path / "second" / "run" / "environment.json"
    assert second == f"{place} is not what process 0 has written there; all need one shared --workdir\n"
    assert first == f"process 1: {second}"
