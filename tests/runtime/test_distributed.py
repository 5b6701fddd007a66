import subprocess
import sys

import pytest

from cifar_flax.errors import UserError
from cifar_flax.runtime.distributed import Cluster, find_cluster

SLURM_STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**SLURM_STEP, "SLURM_NTASKS": "1"},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"},  # the batch script itself, or a shell of salloc
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"OMPI_COMM_WORLD_SIZE": ""},
        {**SLURM_STEP, "SLURM_NTASKS": ""},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},  # any pod
        {"TPU_WORKER_HOSTNAMES": "localhost"},
    ],
)
def test_a_process_without_a_scheduler_or_with_one_task_trains_alone(environment):
    assert find_cluster(None, None, None, environment) is None


@pytest.mark.parametrize(
    "environment",
    [
        {**SLURM_STEP, "SLURM_NTASKS": "2"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"},
        {"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"},
    ],
)
def test_schedulers_are_recognised(environment):
    assert find_cluster(None, None, None, environment) == Cluster()


def test_flags_name_the_cluster_without_a_scheduler():
    assert find_cluster("host:1234", 2, 1, {}) == Cluster("host:1234", 2, 1)
    assert find_cluster("host:1234", 1, 0, {}) is None
    assert find_cluster(None, 1, None, {**SLURM_STEP, "SLURM_NTASKS": "2"}) is None


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("host:1234", None, None), "--num_processes and --process_id: missing"),
        ((None, 2, 0), "--coordinator: missing"),
        (("host:1234", 2, 2), "--process_id=2: expected 0 to 1"),
        (("host", 2, 0), "--coordinator=host: expected HOST:PORT"),
    ],
)
def test_incomplete_or_contradictory_flags_are_refused(flags, complaint):
    with pytest.raises(UserError, match=complaint):
        find_cluster(*flags, {})


SUPERVISED = """
import sys
from cifar_flax.runtime import app, distributed

def main():
    if distributed.is_worker():
        print(distributed.PEER_DIED, file=sys.stderr)
        sys.exit(75)
    distributed.supervise(restart=RESTART)

app.run(main)
"""


@pytest.mark.parametrize(("restart", "flags"), [(False, ""), (True, " without --restart")])
def test_after_restart_a_run_that_lost_a_process_goes_on_without_it(tmp_path, restart, flags):
    (tmp_path / "command.py").write_text(SUPERVISED.replace("RESTART", str(restart)))
    done = subprocess.run(
        [sys.executable, "command.py"], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 75
    assert done.stderr.endswith(f"out of reach; run the same command{flags} on all to go on\n")
    assert len(done.stderr.splitlines()) == 1
