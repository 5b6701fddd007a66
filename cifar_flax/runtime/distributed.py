"""Starting one training on several hosts: that there are several, joining them, and one clear line when another one dies.

JAX ends a process whose peers are gone by abort(), deep in its C++ and with a stack trace. So each process of such a training
is a pair: the trainer, and the one that was started, which waits for it, passes signals on and says how it ended.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from cifar_flax.errors import Preempted, UserError

HEARTBEAT_SECONDS = 30  # without a sign of life, after which a process is taken for dead
ERROR_GRACE_SECONDS = 2  # in which the others that know of the same error say so: when the first process is gone, they abort
CONNECT_SECONDS = 300  # for all to start: schedulers do not start them at once
SUPERVISOR_FD = "CIFAR_FLAX_SUPERVISOR_FD"  # a socket that closes when the supervising process ends
FIRST = b"first"  # what the trainer of process 0 says there
SERVICE = b"coordination_service"  # in the lines of JAX's own log on which processes are there
FATAL = b"Terminating process because the JAX distributed service detected fatal errors"
TRANSPORTS = ("Gloo", "NCCL")  # in what XLA raises where the other side of an exchange is gone
PEER_DIED = "another process of this training has died or is out of reach; run the same command on all to go on"


@dataclass(frozen=True)
class Cluster:
    """Where this process stands among the others; None is for JAX to find out from the scheduler's environment."""

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def find_cluster(
    coordinator: str | None, num_processes: int | None, process_id: int | None, environment: Mapping[str, str]
) -> Cluster | None:
    """The cluster that flags or a scheduler ask for; None where this process trains alone.

    Args:
      coordinator: HOST:PORT of process 0.
      num_processes: of the training.
      process_id: of this one, from 0.
      environment: with what SLURM, Open MPI, Kubernetes (an indexed job) or a TPU pod say there.

    Raises:
      UserError: some of the flags are given and others are missing or make no sense.
    """
    if num_processes is not None and process_id is not None and process_id >= num_processes:
        raise UserError(f"--process_id={process_id}: expected 0 to {num_processes - 1}, for --num_processes={num_processes}")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise UserError(f"--coordinator={coordinator}: expected HOST:PORT")
    given = (coordinator, num_processes, process_id)
    if num_processes == 1:
        return None
    if scheduled(environment):
        return Cluster(*given)
    if given == (None, None, None):
        return None
    names = ("coordinator", "num_processes", "process_id")
    missing = [f"--{name}" for name, value in zip(names, given, strict=True) if value is None]
    if missing:
        raise UserError(f"{' and '.join(missing)}: missing; no scheduler was found that would tell, so all three are needed")
    return Cluster(*given)


def scheduled(environment: Mapping[str, str]) -> bool:
    """Whether a scheduler has started this process as one of several."""
    return (
        ("SLURM_STEP_NODELIST" in environment and int(environment.get("SLURM_NTASKS", 1)) > 1)
        or int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1
        or {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys()
        or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    )


def is_trainer() -> bool:
    """Whether this process is the half of a pair that trains."""
    return SUPERVISOR_FD in os.environ


def initialize_distributed(cluster: Cluster) -> None:
    """Connects to the other processes, in the half that trains; after it, JAX sees the devices of all.

    Raises:
      UserError: the others cannot be found or reached.
    """
    lifeline = socket.socket(fileno=int(os.environ[SUPERVISOR_FD]))
    threading.Thread(target=_exit_with_supervisor, args=(lifeline,), daemon=True).start()
    import jax  # which the other half does not need

    # It would take SIGTERM for itself; training.hosts has the processes agree on any reason to stop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.num_processes,
            cluster.process_id,
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as e:
        raise UserError(
            f"cannot join the other processes: {str(e).splitlines()[0]}; give --coordinator=HOST:PORT, --num_processes and "
            "--process_id, or --num_processes=1 to train alone"
        ) from None
    _connect_devices()
    if jax.process_index() == 0:
        lifeline.send(FIRST)


def _connect_devices() -> None:
    """Has all devices exchange something now: a first exchange later would not wait for a process that loads for long."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    mesh = jax.make_mesh((jax.device_count(),), ("all",), axis_types=(AxisType.Auto,))
    split, every = NamedSharding(mesh, PartitionSpec("all")), NamedSharding(mesh, PartitionSpec())
    ones = jax.make_array_from_callback((mesh.size,), split, lambda index: np.ones(mesh.size, np.float32)[index])
    jax.block_until_ready(jax.jit(lambda x: x.sum(), out_shardings=every)(ones))
    multihost_utils.sync_global_devices("connected")


def supervise() -> bool:
    """Starts the same command as the half that trains; once it has ended well, returns whether it was the first of all.

    Raises:
      SystemExit: it ended otherwise, with its exit code; what it had to say is said.
      Preempted: another process has died.
    """
    lifeline, its_end = socket.socketpair()
    trainer = subprocess.Popen(  # nosec B603 # this command, once more
        [sys.executable, *sys.argv],
        env={**os.environ, SUPERVISOR_FD: str(its_end.fileno())},
        stderr=subprocess.PIPE,
        pass_fds=[its_end.fileno()],
        start_new_session=True,  # or Ctrl-C would reach it twice
    )
    its_end.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: trainer.send_signal(number))
    held_back: list[bytes] = []  # from where the service complains on: it may be about to abort the trainer
    for line in trainer.stderr or ():
        if held_back or SERVICE in line:
            held_back.append(line)
        else:
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
    code = trainer.wait()
    peer_died = any(FATAL in line for line in held_back)
    if not peer_died:
        sys.stderr.buffer.writelines(held_back)
    if peer_died:
        raise Preempted(PEER_DIED)
    if code:
        sys.exit(code if code > 0 else 128 - code)
    return lifeline.recv(len(FIRST)) == FIRST


def run_worker(train: Callable[[], object]) -> None:
    """Calls it, in the half that trains; after an error it ends without the barrier at which JAX would wait for the others."""
    try:
        train()
        return
    except SystemExit as e:
        code = int(e.code or 0)
    except BaseException as e:
        code = 1
        if any(transport in str(e) for transport in TRANSPORTS):
            print(PEER_DIED, file=sys.stderr)
            code = Preempted.exit_code
        else:
            traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(ERROR_GRACE_SECONDS)
    os._exit(code)


def _exit_with_supervisor(lifeline: socket.socket) -> None:
    with suppress(ConnectionResetError):  # as when it has left unread what the first trainer told it
        lifeline.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)
