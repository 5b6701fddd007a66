"""The same step in PyTorch on its GPU, or on the CPU where it has none: compiled, and compiled with CUDA graphs."""

from collections.abc import Callable

import torch

from benchmarks.torch_network import Network, first_line
from benchmarks.workload import Workload


def steps(workload: Workload, chunk: int) -> tuple[dict[str, Callable[[], object]], list[str]]:
    """Functions that make `chunk` updates under bfloat16 autocast and wait once; and what could not be compiled."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    made: dict[str, Callable[[], object]] = {}
    remarks: list[str] = []
    for name, mode in (("torch_compiled", "default"), ("torch_cuda_graphs", "reduce-overhead")):
        try:
            made[name] = Network(workload, device).step(True, torch.bfloat16, mode, chunk)
        except Exception as e:  # whatever Inductor cannot do here
            remarks.append(f"{name} was left out: {type(e).__name__}: {first_line(e)}")
    return made, remarks


def environment() -> dict[str, str]:
    """The versions and the card."""
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"torch": str(torch.__version__), "cuda": str(torch.version.cuda), "card": card}
