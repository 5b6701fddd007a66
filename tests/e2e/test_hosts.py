import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from cifar_flax import Run
from cifar_flax.errors import AGAIN
from tests.conftest import ROOT, TINY_CONFIG

pytestmark = pytest.mark.slow
STEPS = 27  # 3 epochs of 290 images in batches of 32
TIMEOUT = 400


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start(tiny_cache, tmp_path):
    """Starts `processes` of `launch/train.py` with so many devices each; together they train one run."""
    started = []

    def run(workdir, processes, devices, *args):
        address = f"127.0.0.1:{free_port()}"
        for process in range(processes):
            hosts = [f"--coordinator={address}", f"--num_processes={processes}", f"--process_id={process}"]
            command = [sys.executable, ROOT / "launch" / "train.py", f"--config={TINY_CONFIG}", f"--workdir={workdir}"]
            environment = {
                **os.environ,
                "CIFAR_FLAX_CACHE": str(tiny_cache),
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            }
            started.append(
                subprocess.Popen(
                    [*map(str, command), "--config.train.epochs=3", *hosts, *args],
                    cwd=tmp_path,
                    env=environment,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
        return started[-processes:]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def ended(processes):
    """(exit code, stderr) of each."""
    return [(process.communicate(timeout=TIMEOUT)[1], process.returncode)[::-1] for process in processes]


def losses(workdir):
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if record["kind"] == "step"]


def wait_for_step(workdir, step):
    deadline = time.monotonic() + TIMEOUT
    file = workdir / "metrics.jsonl"
    while not (file.exists() and f'"step": {step},' in file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tiny_cache, tmp_path_factory):
    """One process with four devices."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, ROOT / "launch" / "train.py", f"--config={TINY_CONFIG}", "--workdir=run"]
    environment = {
        **os.environ,
        "CIFAR_FLAX_CACHE": str(tiny_cache),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    subprocess.run([*map(str, command), "--config.train.epochs=3"], check=True, cwd=folder, env=environment, timeout=TIMEOUT)
    return folder / "run"


def test_two_processes_train_as_one_does_and_their_checkpoint_opens_in_one(start, whole, tmp_path, tiny_data):
    first, second = start("run", 2, 2)
    assert ended([second, first]) == [(0, ""), (0, "")]
    assert len(losses(tmp_path / "run")) == STEPS
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole), rtol=1e-5)
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert len(environment["devices"]) == 4
    ours, theirs = (Run.open(run).evaluate("test", "latest") for run in (tmp_path / "run", whole))
    assert ours["n"] == 103
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    assert list((tmp_path / "run" / "tensorboard").glob("events*")), "the first process writes TensorBoard"


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_and_the_run_goes_on_exactly(killed, start, whole, tmp_path):
    processes = start("run", 2, 2)
    wait_for_step(tmp_path / "run", 12)
    processes[killed].kill()
    [(code, stderr)] = ended([processes[1 - killed]])
    assert code == 75
    assert stderr.splitlines() == [
        "another process of this training has died or is out of reach; run the same command on all to go on"
    ]
    assert len(losses(tmp_path / "run")) < STEPS, "the killed process was to be missed"

    assert ended(start("run", 2, 2)) == [(0, ""), (0, "")]
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole), rtol=1e-5)
    assert len(losses(tmp_path / "run")) == STEPS


def test_sigterm_to_one_process_has_all_of_them_save_the_same_step(start, tmp_path):
    processes = start("run", 2, 2, "--config.train.epochs=400")
    wait_for_step(tmp_path / "run", 8)
    processes[1].send_signal(signal.SIGTERM)
    (code0, told), (code1, signalled) = ended(processes)
    assert (code0, code1) == (75, 75)
    saved = Run.open(tmp_path / "run").step("latest")
    assert saved == len(losses(tmp_path / "run"))
    assert told == f"another process is told to stop: saved at step {saved} in {tmp_path / 'run'}; {AGAIN}\n"
    assert signalled == f"SIGTERM: saved at step {saved} in {tmp_path / 'run'}; {AGAIN}\n"


def test_a_run_of_another_config_is_refused_by_all_processes(start, whole, tmp_path):
    os.symlink(whole, tmp_path / "run")
    for code, stderr in ended(start("run", 2, 2, "--config.optim.learning_rate=0.5")):
        assert code == 2
        assert "config.optim.learning_rate" in stderr
        assert "Traceback" not in stderr
