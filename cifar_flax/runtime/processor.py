"""The CPU of this machine, as Linux describes it."""

import functools
import platform
from pathlib import Path

# Instructions that decide how fast float32 and bfloat16 are multiplied, by Linux's names.
INSTRUCTION_SETS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "bf16", "sve")


def cpu_model() -> str:
    """The name of the processor."""
    return _field("model name") or platform.processor()


def cpu_features() -> frozenset[str]:
    """The processor's features, by Linux's names; none where there is no /proc/cpuinfo."""
    return frozenset((_field("flags") or _field("Features")).split())


def cpu_flags() -> list[str]:
    """The instruction sets of `INSTRUCTION_SETS` that the processor has."""
    features = cpu_features()
    return [flag for flag in INSTRUCTION_SETS if flag in features]


@functools.cache
def _field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")
