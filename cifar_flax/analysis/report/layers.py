"""A network layer by layer: what each is called with and returns, and its parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from cifar_flax.models import Variables


@dataclass(frozen=True)
class Layer:
    """One call of a Flax module.

    Attributes:
      path: names of the modules it lies in and its own.
      kind: its class.
      input_shape: of its first argument, without the batch.
      output: for the images given, float32 [N, ...].
      params: its own and its parts' parameters, a tree of arrays; empty without.
    """

    path: tuple[str, ...]
    kind: str
    input_shape: tuple[int, ...]
    output: np.ndarray
    params: Any

    @property
    def name(self) -> str:
        """The path in one word."""
        return "/".join(self.path)

    @property
    def parameters(self) -> int:
        """How many there are."""
        return _size(self.params)


def call_layers(model: nn.Module, variables: Variables, images: jax.Array) -> list[Layer]:
    """Runs a network and returns its layers in the order of their calls, each before its parts.

    Dropout that drops nothing, and what is no Flax module, such as activation functions and pooling, are not among them.

    Args:
      model: from `models.create_model`.
      variables: {"params", "batch_stats"}.
      images: float32 [N, H, W, C], normalised.
    """
    calls: list[Any] = []

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if not is_layer(context):
            return call(*args, **kwargs)
        module, place = context.module, len(calls)
        calls.append(None)
        output = call(*args, **kwargs)
        calls[place] = (tuple(module.path), type(module).__name__, args[0].shape[1:], output)
        return output

    def forward(variables: Variables, images: jax.Array) -> list[jax.Array]:
        calls.clear()
        with nn.intercept_methods(record):
            model.apply(variables, images, train=False)
        return [output for *_, output in calls]

    outputs = jax.device_get(jax.jit(forward)(variables, images))
    return [
        Layer(path, kind, shape, np.asarray(output, np.float32), _at(variables["params"], path))
        for (path, kind, shape, _), output in zip(calls, outputs, strict=True)
    ]


def is_layer(context: nn.module.InterceptorContext) -> bool:
    """Whether what Flax is about to call is a layer to show: a module in the network, other than dropout that drops nothing."""
    module = context.module
    return context.method_name == "__call__" and bool(module.path) and getattr(module, "rate", None) != 0


def leaf_layers(layers: list[Layer]) -> list[Layer]:
    """Those that have no parts of their own."""
    parents = {layer.path[:depth] for layer in layers for depth in range(len(layer.path))}
    return [layer for layer in layers if layer.path not in parents]


def dimensions(shape: tuple[int, ...]) -> str:
    """A shape as `32 x 32 x 3`, with the sign for times."""
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape))


def parameters_at(variables: Variables, path: tuple[str, ...]) -> int:
    """How many parameters the module at a path has, those of its parts among them."""
    return _size(_at(variables["params"], path))


def _size(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name, {})
    return tree
