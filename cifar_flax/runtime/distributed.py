"""One training on several hosts: whether there are several, joining them, and one clear line when another one dies.

JAX ends a process whose peers are gone by abort() in its C++ code, with a stack trace. So each process of such a training is a
pair: a worker that trains, and its supervisor, which was started first, passes signals on and reports how the worker ended.
"""

import os
import re
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
from cifar_flax.files.redact import reason

HEARTBEAT_SECONDS = 30  # of silence, after which a process counts as dead
ERROR_GRACE_SECONDS = 2  # in which the other processes report the same error; they abort once process 0 is gone
CONNECT_SECONDS = 300  # until all processes are there; schedulers do not start them at once
SUPERVISOR_FD = "CIFAR_FLAX_SUPERVISOR_FD"  # a socket that closes when the supervising process ends
MAIN = b"main"  # sent there by the worker of process 0
SERVICE = b"coordination_service"  # in the lines that JAX logs when processes come and go
FATAL = b"Terminating process because the JAX distributed service detected fatal errors"
TRANSPORTS = ("Gloo", "NCCL")  # named in the error that XLA raises when the other side of an exchange is gone
PEER_DIED = "another process of this training has died or is out of reach; run the same command on all to go on"


@dataclass(frozen=True)
class Cluster:
    """The place of this process among the others.

    Attributes:
      coordinator: HOST:PORT of process 0.
      num_processes: number of processes.
      process_id: number of this one, from 0.

    JAX reads the fields that are None from the scheduler's environment.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def find_cluster(
    coordinator: str | None, num_processes: int | None, process_id: int | None, environment: Mapping[str, str]
) -> Cluster | None:
    """The cluster given by flags or by a scheduler; None if this process trains alone.

    Args:
      coordinator: HOST:PORT of process 0.
      num_processes: number of processes.
      process_id: number of this one, from 0.
      environment: variables of this process, set by SLURM, Open MPI, Kubernetes (an indexed job) or a TPU pod.

    Raises:
      UserError: some of the flags are given and others are missing or make no sense.
    """
    if num_processes is not None and process_id is not None and process_id >= num_processes:
        raise UserError(f"--process_id={process_id}: expected 0 to {num_processes - 1}, for --num_processes={num_processes}")
    if coordinator is not None and not re.fullmatch(".*:[0-9]{1,5}", coordinator):
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
        raise UserError(f"{' and '.join(missing)}: missing; without a scheduler all three flags are needed")
    return Cluster(*given)


def scheduled(environment: Mapping[str, str]) -> bool:
    """Whether a scheduler has started this process as one of several."""
    return (
        ("SLURM_STEP_NODELIST" in environment and int(environment.get("SLURM_NTASKS") or 1) > 1)
        or int(environment.get("OMPI_COMM_WORLD_SIZE") or 1) > 1
        or {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys()
        or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    )


def is_worker() -> bool:
    """Whether this process is the worker of a pair."""
    return SUPERVISOR_FD in os.environ


def initialize_distributed(cluster: Cluster) -> None:
    """Connects a worker to the other processes; afterwards JAX sees the devices of all.

    Raises:
      UserError: they cannot be found or reached.
    """
    lifeline = socket.socket(fileno=int(os.environ[SUPERVISOR_FD]))
    threading.Thread(target=_exit_with_supervisor, args=(lifeline,), daemon=True).start()
    import jax  # the supervisor needs none

    # The service would handle SIGTERM itself; `multihost.StopConsensus` handles all requests to stop.
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
            f"cannot join the other processes: {reason(e)}; give --coordinator=HOST:PORT, --num_processes and "
            "--process_id, or --num_processes=1 to train alone"
        ) from None
    _connect_devices()
    if jax.process_index() == 0:
        lifeline.send(MAIN)


def _connect_devices() -> None:
    """Exchanges a value between all devices: a first exchange later times out where one process loads its data for long."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    from cifar_flax.runtime import compilation, devices

    mesh = devices.data_parallel_mesh()
    ones = devices.put_global(np.ones(mesh.size, np.float32), devices.sharded(mesh))
    jax.block_until_ready(compilation.jit(lambda x: x.sum(), out_shardings=devices.replicated(mesh))(ones))
    multihost_utils.sync_global_devices("connected")


def supervise(restart: bool = False) -> bool:
    """Starts the same command as the worker and waits for it; returns whether that was process 0.

    Args:
      restart: whether `--restart` is among its flags, which would begin again once more.

    Raises:
      SystemExit: the worker failed; the exit code is its own, and its messages are printed.
      Preempted: another process has died.
    """
    lifeline, worker_end = socket.socketpair()
    worker = subprocess.Popen(  # nosec B603 # this command, once more
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, SUPERVISOR_FD: str(worker_end.fileno())},
        stderr=subprocess.PIPE,
        pass_fds=[worker_end.fileno()],
        start_new_session=True,  # or Ctrl-C would reach it twice
    )
    worker_end.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: worker.send_signal(number))
    held_back: list[bytes] = []  # from the first sign on that another process is gone: JAX may be about to abort the worker
    for line in worker.stderr or ():
        if held_back or any(sign in line for sign in (SERVICE, PEER_DIED.encode())):
            held_back.append(line)
        else:
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
    code = worker.wait()
    if any(sign in line for line in held_back for sign in (FATAL, PEER_DIED.encode())):
        raise Preempted(PEER_DIED.replace("command", "command without --restart") if restart else PEER_DIED)
    sys.stderr.buffer.writelines(held_back)
    if code:
        sys.exit(code if code > 0 else 128 - code)
    return lifeline.recv(len(MAIN)) == MAIN


def run_worker(train: Callable[[], object]) -> None:
    """Calls `train` in a worker. After an error the process ends without the barrier at which JAX waits for the others."""
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
    with suppress(ConnectionResetError):  # if it ended without reading the message of process 0
        lifeline.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)
