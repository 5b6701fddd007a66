"""What the user's environment sets for other programs: JAX's arithmetic, flags of XLA, matplotlib's backend."""

import os
import re
import subprocess
import sys

from cifar_flax.errors import UserError

# Each changes the numbers of a network, or has its programs refused. What is computed is a matter of the config alone.
ARITHMETIC = (
    *("JAX_ENABLE_X64", "JAX_EXPLICIT_X64_DTYPES", "JAX_DEFAULT_DTYPE_BITS", "JAX_DEFAULT_MATMUL_PRECISION"),
    *("JAX_NUMPY_DTYPE_PROMOTION", "JAX_NUMPY_RANK_PROMOTION", "JAX_ALLOW_F16_REDUCTIONS", "JAX_SOFTMAX_CUSTOM_JVP"),
    *("JAX_DEFAULT_PRNG_IMPL", "JAX_ENABLE_CUSTOM_PRNG", "JAX_LEGACY_PRNG_KEY", "JAX_RANDOM_SEED_OFFSET"),
    *("JAX_THREEFRY_PARTITIONABLE", "JAX_THREEFRY_GPU_KERNEL_LOWERING", "JAX_HIGH_DYNAMIC_RANGE_GUMBEL"),
    *("JAX_DISABLE_JIT", "JAX_DEBUG_NANS", "JAX_DEBUG_INFS", "JAX_DEBUG_KEY_REUSE", "JAX_CHECK_TRACER_LEAKS"),
    "JAX_ENABLE_CHECKS",
    *("JAX_TRANSFER_GUARD", "JAX_TRANSFER_GUARD_HOST_TO_DEVICE", "JAX_TRANSFER_GUARD_DEVICE_TO_DEVICE"),
    *("JAX_TRANSFER_GUARD_DEVICE_TO_HOST", "JAX_ARRAY_GARBAGE_COLLECTION_GUARD", "JAX_THREAD_GUARD", "JAX_DEFAULT_DEVICE"),
    *("JAX_NO_TRACING", "JAX_NO_EXECUTION", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_ERROR_CHECKING_BEHAVIOR_NAN"),
    *("JAX_ERROR_CHECKING_BEHAVIOR_DIVIDE", "JAX_ERROR_CHECKING_BEHAVIOR_OOB", "JAX_AUTO_PCAST", "JAX_USE_DIRECT_LINEARIZE"),
)
KNOWN_FLAG = re.compile(r"--xla_(force_host_platform_device_count|backend_optimization_level)=[0-9]{1,4}")  # to every XLA
PROBE_SECONDS = 60
LOG_LINE = re.compile(r"[EF]\d{4} ")  # of an error in XLA's C++ code


def isolate() -> None:
    """Removes what JAX would read when it is imported, with a line on stderr that names it; pictures are drawn into files.

    Raises:
      UserError: XLA_FLAGS holds a flag that XLA does not have, for which it would abort.
    """
    os.environ["MPLBACKEND"] = "agg"
    removed = [f"{name}={os.environ.pop(name)}" for name in ARITHMETIC if name in os.environ]
    if removed:
        because = "because it changes what networks compute, or has their programs refused"
        print(f"left out, {because}: {' '.join(removed)}", file=sys.stderr, flush=True)
    check_xla_flags(os.environ.get("XLA_FLAGS", ""))


def check_xla_flags(flags: str) -> None:
    """Has XLA parse the flags, in another process, because it aborts where it does not know one."""
    if all(map(KNOWN_FLAG.fullmatch, flags.split())):
        return
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    try:
        done = subprocess.run(  # nosec B603 # this Python
            command, env=environment, capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return
    errors = (line.partition("] ")[2] for line in done.stderr.decode(errors="replace").splitlines() if LOG_LINE.match(line))
    if done.returncode and (reason := next(errors, "")):
        raise UserError(f"XLA_FLAGS: XLA refuses it: {reason[:200]}; take it out of the variable, or unset it")
