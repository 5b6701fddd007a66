"""A network layer by layer: what each is called with and returns, its parameters, and a drawing of them all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cifar_flax.analysis.pictures import BLUE, GREY, new_figure, short
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
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))


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
        module, place = context.module, len(calls)
        if context.method_name != "__call__" or not module.path or getattr(module, "rate", None) == 0:
            return call(*args, **kwargs)
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


def leaf_layers(layers: list[Layer]) -> list[Layer]:
    """Those that have no parts of their own."""
    parents = {layer.path[:depth] for layer in layers for depth in range(len(layer.path))}
    return [layer for layer in layers if layer.path not in parents]


def draw_layers(layers: list[Layer], image_shape: tuple[int, ...], total: int) -> Figure:
    """A box a layer, from the image down to the logits, with shapes and parameters; parts stand to the right of their whole.

    Args:
      layers: from `call_layers`.
      image_shape: (H, W, C).
      total: parameters of the network.
    """
    rows = [("image", "", dimensions(image_shape), 0)]
    for layer in layers:
        shapes = f"{dimensions(layer.input_shape)} → {dimensions(layer.output.shape[1:])}"
        weights = f"{layer.parameters:,} parameters" if layer.parameters else "no parameters"
        rows.append((f"{layer.path[-1]}  ({layer.kind})", weights, shapes, len(layer.path) - 1))
    figure = new_figure(height=0.55 * len(rows) + 0.4)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(len(rows) + 0.1, -0.1), title=f"{total:,} parameters")
    axes.set_axis_off()
    for place, (name, weights, shapes, depth) in enumerate(rows):
        left = 0.04 * depth + 0.01
        color = "#e8f0fa" if weights != "no parameters" else "#f2f2f2"
        box = FancyBboxPatch(
            (left, place + 0.07), 0.98 - left, 0.66, boxstyle="round,pad=0,rounding_size=.02", facecolor=color, edgecolor=BLUE
        )
        box.set_mutation_aspect(len(rows) / 2)
        axes.add_patch(box)
        axes.text(left + 0.02, place + 0.24, short(name, 48), va="center", fontsize=8.5, weight="bold")
        axes.text(left + 0.02, place + 0.54, shapes, va="center", fontsize=8)
        axes.text(0.97, place + 0.54, weights, va="center", ha="right", fontsize=8)
        if place + 1 < len(rows):
            arrow = {"arrowstyle": "->", "color": GREY}
            axes.annotate("", (0.5, place + 1.09), (0.5, place + 0.73), arrowprops=arrow)
    return figure


def dimensions(shape: tuple[int, ...]) -> str:
    """A shape as `32 x 32 x 3`, with the sign for times."""
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape))


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name, {})
    return tree
