"""The same network and step in PyTorch: channels_last, eager and compiled, in float32 and under bfloat16 autocast."""

import os
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.plan import Activate, Conv, Dense, Dropout, Layer, MaxPool, Norm, Residual, Scale, Vector, layers_of
from benchmarks.workload import CLASSES, PRODUCT, Answer, Workload
from cifar_flax.config.types import Activation, GlobalPool
from cifar_flax.optim import SGD, Adam

Step = Callable[[], object]

ACTIVATIONS = {
    Activation.LINEAR: nn.Identity,
    Activation.RELU: nn.ReLU,
    Activation.ELU: nn.ELU,
    Activation.GELU: nn.GELU,
    Activation.SILU: nn.SiLU,
    Activation.TANH: nn.Tanh,
    Activation.SIGMOID: nn.Sigmoid,
    Activation.HARD_SIGMOID: lambda: Apply(lambda x: torch.clamp(0.2 * x + 0.5, 0, 1)),  # Keras 2's
}

POOLED = {
    GlobalPool.FLATTEN: lambda x: x.permute(0, 2, 3, 1).flatten(1),  # in our order; of channels_last, without a copy
    GlobalPool.MEAN: lambda x: x.mean((2, 3)),
    GlobalPool.MAX: lambda x: x.amax((2, 3)),
    GlobalPool.MAX_PLUS_MEAN: lambda x: x.amax((2, 3)) + x.mean((2, 3)),
}


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Calls it."""
        return self.function(x)


class ResidualBlock(nn.Module):
    """Sum of a body and a shortcut of the same input."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the two."""
        return self.shortcut(x) + self.body(x)


class Network:
    """A workload's network with its parameters loaded.

    Attributes:
      module: the network, on `device`; images [N, 3, H, W], channels_last, to logits [N, CLASSES].
      parameters: by our paths.
      inputs, labels: the workload's batch.
    """

    def __init__(self, workload: Workload, device: str = "cpu") -> None:
        self._workload, self._device = workload, device
        self._named: dict[str, nn.Module] = {}
        layers = layers_of(workload.config.model, CLASSES)
        self.module = nn.Sequential(*(self._build(layer) for layer in layers)).to(memory_format=torch.channels_last)
        self.parameters = {path: self._parameter(path) for path in workload.params}
        with torch.no_grad():
            for path, value in workload.params.items():
                self.parameters[path].copy_(torch.from_numpy(_to_torch(value)))
            for path, value in workload.batch_stats.items():
                name, _, kind = path.rpartition("/")
                getattr(self._named[name], f"running_{kind}").copy_(torch.from_numpy(value))
        for path in workload.frozen:
            self.parameters[path].requires_grad_(False)
        images = torch.from_numpy(workload.inputs).permute(0, 3, 1, 2)
        self.inputs = images.contiguous(memory_format=torch.channels_last).to(device)
        self.labels = torch.from_numpy(workload.labels).long().to(device)
        self.module.to(device)

    def loss(self, logits: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of smoothed labels."""
        return F.cross_entropy(logits.float(), self.labels, label_smoothing=self._workload.config.optim.label_smoothing)

    def answer(self) -> Answer:
        """Logits and gradients."""
        with torch.no_grad():
            eval_logits = self.module.eval()(self.inputs).numpy()
        logits = self.module.train()(self.inputs)
        self.loss(logits).backward()
        trained = {path: p.grad.numpy() for path, p in self.parameters.items() if p.grad is not None}
        return Answer(logits.detach().numpy(), eval_logits, {path: _from_torch(g) for path, g in trained.items()})

    def step(self, compiled: bool, dtype: torch.dtype, mode: str = "default", chunk: int = 1) -> Step:
        """A function that makes `chunk` updates and waits for them; `mode` is that of `torch.compile`."""
        module, optimizer = self.module.train(), self._optimizer()

        def forward(images: torch.Tensor) -> torch.Tensor:
            with torch.autocast(self._device, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
                logits = module(images)
            return self.loss(logits)

        loss = torch.compile(forward, dynamic=False, mode=mode) if compiled else forward

        def update() -> None:
            optimizer.zero_grad()
            loss(self.inputs).backward()
            optimizer.step()

        def updates() -> None:
            for _ in range(chunk):
                update()
            if self._device == "cuda":
                torch.cuda.synchronize()

        updates()  # compiles
        return updates

    def _optimizer(self) -> torch.optim.Optimizer:
        """The fused forms, which are PyTorch's fastest."""
        optim, params = self._workload.config.optim, [p for p in self.module.parameters() if p.requires_grad]
        if isinstance(optim, Adam):
            betas = (optim.b1, optim.b2)
            return torch.optim.Adam(params, lr=optim.learning_rate, betas=betas, eps=optim.eps, fused=True)
        assert isinstance(optim, SGD)  # `common_recipe` leaves these two
        return torch.optim.SGD(params, lr=optim.learning_rate, momentum=optim.momentum, nesterov=optim.nesterov, fused=True)

    def _build(self, layer: Layer) -> nn.Module:
        match layer:
            case Conv(name=name, features=features, size=size, padding=padding, bias=bias, stride=stride):
                channels = self._workload.params[f"{name}/kernel"].shape[2]
                # Of even kernels, PyTorch's "same" has the odd row and column at the end as well.
                pixels = padding if isinstance(padding, int) else padding.lower()
                self._named[name] = nn.Conv2d(channels, features, size, stride, pixels, bias=bias)
                return self._named[name]
            case Dense(name=name, features=features, bias=bias):
                self._named[name] = nn.Linear(self._workload.params[f"{name}/kernel"].shape[0], features, bias=bias)
                return self._named[name]
            case Norm() as norm:
                self._named[norm.name] = self._batch_norm(norm)
                return self._named[norm.name]
            case Activate(function=function):
                return ACTIVATIONS[function]()
            case MaxPool(window=window):
                return nn.MaxPool2d(window) if window > 1 else nn.Identity()
            case Dropout(rate=rate):
                return nn.Dropout(rate) if rate else nn.Identity()
            case Vector(how=how):
                return Apply(POOLED[how])
            case Scale(factor=factor):
                return Apply(lambda x: x.float() * factor)
            case Residual(layers=layers, shortcut=shortcut):
                return ResidualBlock(*(nn.Sequential(*map(self._build, part)) for part in (layers, shortcut)))

    def _batch_norm(self, layer: Norm) -> nn.Module:
        """PyTorch's momentum is the share of the new, and its running variance is unbiased; neither matters to the step."""
        features = len(self._workload.batch_stats[f"{layer.name}/mean"])
        norm = nn.BatchNorm2d(features, eps=layer.epsilon, momentum=1 - layer.momentum)
        norm.weight.requires_grad_(layer.scale)  # where there is none it stays 1
        return norm

    def _parameter(self, path: str) -> nn.Parameter:
        name, _, kind = path.rpartition("/")
        return getattr(self._named[name], {"kernel": "weight", "scale": "weight", "bias": "bias"}[kind])


def answers(workload: Workload) -> dict[str, Answer]:
    """The answer of PyTorch to a workload without dropout, in float32."""
    _settle()
    return {"torch": Network(workload).answer()}


def steps(workload: Workload, bfloat16: bool = True) -> tuple[dict[str, Step], list[str]]:
    """Training steps in float32 and, if asked for, bfloat16, eager and compiled, and a matrix product; what was left out."""
    _settle()
    made: dict[str, Step] = {}
    remarks: list[str] = []
    dtypes = {"torch": torch.float32} | ({"torch_bf16": torch.bfloat16} if bfloat16 else {})
    for name, dtype in dtypes.items():
        made[f"{name}_eager"] = Network(workload).step(False, dtype)
        try:
            made[f"{name}_compiled"] = Network(workload).step(True, dtype)
        except Exception as e:  # no compiler, or whatever Inductor cannot do here: the eager step is still there
            remarks.append(f"{name}_compiled was left out: {type(e).__name__}: {first_line(e)}")
    matrix = torch.ones(PRODUCT, PRODUCT)
    return {**made, "matrix_product_torch": lambda: torch.mm(matrix, matrix)}, remarks


def first_line(error: Exception) -> str:
    """The first line of its message, which may be empty."""
    return str(error).strip().partition("\n")[0]


def _settle() -> None:
    """All cores, and no subnormal numbers: what XLA and TensorFlow do by themselves."""
    warnings.filterwarnings("ignore", "Using padding='same' with even kernel")  # a copy, as our network pads too
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)


def _to_torch(kernel: np.ndarray) -> np.ndarray:
    """[H, W, in, out] -> [out, in, H, W], [in, out] -> [out, in]; vectors as they are."""
    return kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T


def _from_torch(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
