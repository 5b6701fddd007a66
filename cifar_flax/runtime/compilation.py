"""The one way of compiling: `jit` with the XLA options of this backend."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from cifar_flax.runtime.processor import cpu_flags

# XLA's CPU backend fuses matrix products and convolutions with what reads them, by its library YNN, where this option does not
# say otherwise. jaxlib 0.10.2 to 0.12.0 then compute wrong numbers (jax-ml/jax#39103: a product with a matrix of equal entries,
# multiplied and summed, is NaN or off by a factor of 1e30), end in SIGSEGV (jax-ml/jax#39257), and take twice the time for
# convolutions (benchmarks/throughput.py).
CPU_OPTIONS: Mapping[str, Any] = {"xla_cpu_experimental_ynn_fusion_type": ""}

# oneDNN, in jaxlib's wheels for Linux on x86-64 from 0.11 on, runs convolutions and matrix products in bfloat16 on the matrix
# units of the processor (Intel's AMX) or by its vector units (AVX-512 with bfloat16, which AMD has too). In float32 it gains
# nothing over a whole training step.
ONEDNN_OPTIONS: Mapping[str, Any] = {
    **CPU_OPTIONS,
    "xla_cpu_experimental_onednn_custom_call": True,
    "xla_cpu_use_xnnpack": False,
}
ONEDNN_SINCE = (0, 11)  # jaxlib
FAST_BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16"})  # the instructions with either of which it pays


def jit(fun: Callable[..., Any], dtype: Any = jnp.float32, **kwargs: Any) -> jax.stages.Wrapped:
    """`jax.jit` with the XLA options of this backend.

    The result is a program of its own: JAX takes options for the outermost function only, so it must not be called from inside
    another `jit`.

    Args:
      fun: the function to compile.
      dtype: of its convolutions and matrix products.
      **kwargs: as `jax.jit` takes them: shardings, `donate_argnums`, `static_argnums` and so on.
    """
    return jax.jit(fun, compiler_options=compiler_options(dtype), **kwargs)


def compiler_options(dtype: Any = jnp.float32) -> dict[str, Any]:
    """XLA options of this backend for programs that compute in `dtype`; `jit` sets them, `Lowered.compile` takes them."""
    if jax.default_backend() != "cpu":
        return {}
    return dict(ONEDNN_OPTIONS) if uses_onednn(dtype) else _cpu_options()


@functools.cache
def _cpu_options() -> dict[str, Any]:
    return supported(CPU_OPTIONS, "slow, and some wrong (jax-ml/jax#39103)")


def supported(options: Mapping[str, Any], otherwise: str) -> dict[str, Any]:
    """The options if this jaxlib knows all of them; otherwise none, with a warning that says what programs are without them."""
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()  # not called, or it would fail inside of a trace
    except jax.errors.JaxRuntimeError as e:
        logging.warning("this jaxlib does not know %s; programs run without, %s: %s", ", ".join(options), otherwise, e)
        return {}
    return dict(options)


def multiplies_bfloat16_fast() -> bool:
    """Whether this backend multiplies bfloat16 faster than float32: accelerators do, and CPUs on which `uses_onednn`.

    GPUs of NVIDIA do from compute capability 8.0 on, which is Ampere.
    """
    if jax.default_backend() == "cpu":
        return uses_onednn(jnp.bfloat16)
    major = str(getattr(jax.devices()[0], "compute_capability", "")).partition(".")[0]  # of AMD's it is a name such as gfx90a
    return not major.isdecimal() or int(major) >= 8


def uses_onednn(dtype: Any) -> bool:
    """Whether the programs of this backend that compute in `dtype` run convolutions and matrix products by oneDNN."""
    return dtype == jnp.bfloat16 and jax.default_backend() == "cpu" and _reaches_onednn()


@functools.cache
def _reaches_onednn() -> bool:
    """Whether the processor has the instructions and this jaxlib the library.

    Nothing but a compiled program tells for sure, and none that calls it can be kept on disk: each process would compile one.
    """
    if not FAST_BFLOAT16 & set(cpu_flags()) or jax.__version_info__ < ONEDNN_SINCE:
        return False
    return bool(supported(ONEDNN_OPTIONS, "slowly in bfloat16"))
