"""A network layer by layer: the output of each for given images, and the number of its parameters."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from cifar_flax.models import Variables, count_parameters
from cifar_flax.runtime import compilation

Path = tuple[str, ...]  # names of the modules that contain a module, and its own


@dataclass(frozen=True)
class Layer:
    """One call of a Flax module.

    Attributes:
      path: names of the modules that contain it, and its own.
      output: its output for the images, float32 [N, ...].
      parameters: number of parameters, those of its submodules included.
    """

    path: Path
    output: np.ndarray
    parameters: int

    @property
    def name(self) -> str:
        """The path as one string."""
        return "/".join(self.path)


def call_layers(model: nn.Module, variables: Variables, images: jax.Array, dtype: Any) -> list[Layer]:
    """Runs a network and returns its layers in the order of their calls, each before its submodules.

    Left out are functions that are no Flax modules, such as activations and pooling, dropout of rate 0, and modules that return
    something other than an array with a row an image, such as a parameter, or are called within a scan.

    Args:
      model: from `models.create_model`.
      variables: {"params", "batch_stats"}.
      images: float32 [N, H, W, C], normalised.
      dtype: compute dtype of the model.
    """
    calls: list[Path] = []

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if is_layer(context):
            calls.append(tuple(context.module.path))
        return call(*args, **kwargs)

    def forward(variables: Variables, images: jax.Array) -> Mapping[str, Any]:
        calls.clear()
        with nn.intercept_methods(record):
            _, state = model.apply(variables, images, train=False, capture_intermediates=True, mutable=["intermediates"])
        return state.get("intermediates", {})

    captured = jax.device_get(compilation.jit(forward, dtype)(variables, images))
    layers, seen = [], Counter[Path]()
    for path in calls:
        outputs = subtree(captured, path).get("__call__", ())
        place, seen[path] = seen[path], seen[path] + 1
        output = outputs[place] if place < len(outputs) else None
        if isinstance(output, np.ndarray) and output.shape[:1] == images.shape[:1]:
            layers.append(Layer(path, output.astype(np.float32), count_parameters(subtree(variables["params"], path))))
    return layers


def is_layer(context: nn.module.InterceptorContext) -> bool:
    """Whether Flax is about to call a layer to show: a submodule of the network, other than dropout of rate 0."""
    module = context.module
    return context.method_name == "__call__" and bool(module.path) and getattr(module, "rate", None) != 0


def leaf_layers(layers: list[Layer]) -> list[Layer]:
    """Selects the layers without submodules."""
    parents = {layer.path[:depth] for layer in layers for depth in range(len(layer.path))}
    return [layer for layer in layers if layer.path not in parents]


def subtree(tree: Any, path: Path) -> Any:
    """The part of nested dicts that belongs to the module at a path; {} where it has none."""
    for name in path:
        tree = tree.get(name, {})
    return tree


def format_shape(shape: tuple[int, ...]) -> str:
    """Formats a shape as `32 x 32 x 3`, with multiplication signs."""
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape))
