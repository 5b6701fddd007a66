"""A network as a graph, from the image down to the logits: what each layer and each function between layers reads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Jaxpr, JaxprEqn, Var
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cifar_flax.analysis.figures import BLUE, CARD, GREY, ORANGE, new_figure, short
from cifar_flax.analysis.report.layers import dimensions, is_layer, parameters_at
from cifar_flax.models import Variables

FUNCTIONS = {"reduce_max": "maximum of each map", "reduce_sum": "mean of each map", "reshape": "flatten", "logistic": "sigmoid"}
JOINS = {"add": "sum", "mul": "product"}
LAYER, FUNCTION, GAP, LANE = 0.46, 0.24, 0.15, 0.13  # inches: heights of boxes, what lies between two, a line beside them


@dataclass(frozen=True)
class Node:
    """The image, the call of a layer, or a function that is no layer, such as an activation, pooling or a sum of branches.

    Attributes:
      name: of the function, or the layer's path in one word.
      kind: the class of a layer; empty for all else.
      shape: of what it returns, without the batch.
      parameters: how many it has.
      sources: the nodes it reads, as their places in the list.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    sources: tuple[int, ...]


def network_graph(model: nn.Module, variables: Variables, image_shape: tuple[int, int, int]) -> list[Node]:
    """The nodes in the order of their calls, the image first; layers with parts are shown by their parts.

    What only scales a value or changes its type is not among them, nor is dropout that drops nothing.

    Args:
      model: from `models.create_model`.
      variables: {"params", "batch_stats"}.
      image_shape: (H, W, C).
    """
    calls: list[tuple[tuple[str, ...], str]] = []

    def mark(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if not is_layer(context):
            return call(*args, **kwargs)
        place = len(calls)
        calls.append((tuple(context.module.path), type(context.module).__name__))
        output = call(checkpoint_name(args[0], f"in {place}"), *args[1:], **kwargs)
        return checkpoint_name(output, f"out {place}")

    def forward(images: jax.Array) -> Any:
        with nn.intercept_methods(mark):
            return model.apply(variables, images, train=False)

    jaxpr = jax.make_jaxpr(forward)(jnp.zeros((1, *image_shape))).jaxpr
    parents = {path[:depth] for path, _ in calls for depth in range(len(path))}
    layers = {
        str(place): Node("/".join(path), kind, (), parameters_at(variables, path), ())
        for place, (path, kind) in enumerate(calls)
        if path not in parents
    }
    return _walk(jaxpr, layers, image_shape)


def _walk(jaxpr: Jaxpr, layers: dict[str, Node], image_shape: tuple[int, ...]) -> list[Node]:
    """Follows values through the operations; `layers` are those whose ends are marked, "in" and "out", with their keys."""
    nodes = [Node("image", "", image_shape, 0, ())]
    sources: dict[Any, tuple[int, ...]] = {jaxpr.invars[0]: (0,)}
    inside = False
    for operation in jaxpr.eqns:
        read = tuple(sorted({place for v in operation.invars if isinstance(v, Var) for place in sources.get(v, ())}))
        end, _, key = operation.params["name"].partition(" ") if operation.primitive.name == "name" else ("", "", "")
        layer = layers.get(key)
        result: Any = operation.outvars[0].aval
        shape = result.shape[1:]
        if layer and end == "in":
            inside, layer_reads = True, read
        elif layer:
            inside = False
            nodes.append(Node(layer.name, layer.kind, shape, layer.parameters, layer_reads))
            read = (len(nodes) - 1,)
        elif not inside and read and (name := _function(operation, len(read))):
            nodes.append(Node(name, "", shape, 0, read))
            read = (len(nodes) - 1,)
        sources.update(dict.fromkeys(operation.outvars, read))
    return nodes


def _function(operation: JaxprEqn, sources: int) -> str:
    """What a person would call an operation on so many nodes; empty for scaling, conversions and the like."""
    name = operation.primitive.name
    if sources > 1:
        return JOINS.get(name, name)
    if name == "jit":
        return str(operation.params["name"]).replace("_", " ")
    if name in ("custom_jvp_call", "custom_vjp_call"):
        return str(operation.params["call_jaxpr"].jaxpr.debug_info.func_name).replace("_", " ")
    return FUNCTIONS.get(name, name if name == "tanh" else "")


def draw_network(nodes: list[Node], total: int) -> Figure:
    """A box a node, with shapes and parameters, and an arrow to each from what it reads: at the left where others lie between.

    Args:
      nodes: from `network_graph`.
      total: parameters of the network.
    """
    lanes = side_lanes(nodes)
    left = 0.05 + LANE * (1 + max(lanes.values(), default=-1))
    heights = [LAYER if node.kind else FUNCTION for node in nodes]
    tops = [sum(heights[:place]) + GAP * place for place in range(len(nodes))]
    bottom = tops[-1] + heights[-1] + 0.05
    figure = new_figure(height=bottom + 0.35)
    axes = figure.add_subplot(xlim=(0, CARD), ylim=(bottom, -0.05), title=f"{total:,} parameters")
    axes.set_axis_off()
    for place, (node, top, height) in enumerate(zip(nodes, tops, heights, strict=True)):
        _box(axes, node, [nodes[source].shape for source in node.sources], left, top, height)
        if place - 1 in node.sources:
            _arrow(axes, [(CARD / 2, top - GAP), (CARD / 2, top)], GREY)
    for (source, target), lane in lanes.items():
        out, into = tops[source] + 0.7 * heights[source], tops[target] + 0.3 * heights[target]
        x = left - LANE * (lane + 1)
        _arrow(axes, [(left, out), (x, out), (x, into), (left, into)], ORANGE)
    return figure


def side_lanes(nodes: list[Node]) -> dict[tuple[int, int], int]:
    """The arrows that lead past other nodes, (source, target), each with the first lane beside the boxes that is free there."""
    past = sorted((source, place) for place, node in enumerate(nodes) for source in node.sources if source < place - 1)
    taken: list[int] = []  # the node to which each lane is in use
    lanes = {}
    for source, target in past:
        lane = next((k for k, until in enumerate(taken) if until <= source), len(taken))
        taken[lane : lane + 1] = [target]
        lanes[source, target] = lane
    return lanes


def _box(axes: Any, node: Node, inputs: Iterable[tuple[int, ...]], left: float, top: float, height: float) -> None:
    color = "#e8f0fa" if node.parameters else "#f2f2f2"
    style = "round,pad=0,rounding_size=.06"
    edge = BLUE if node.kind else GREY
    axes.add_patch(FancyBboxPatch((left, top), CARD - 0.03 - left, height, boxstyle=style, facecolor=color, edgecolor=edge))
    shape = dimensions(node.shape)
    if not node.kind:
        axes.text(left + 0.08, top + height / 2, node.name, va="center", fontsize=8)
        axes.text(CARD - 0.11, top + height / 2, shape, va="center", ha="right", fontsize=8)
        return
    first, second = top + 0.3 * height, top + 0.72 * height
    axes.text(left + 0.08, first, short(f"{node.name}  ({node.kind})", 46), va="center", fontsize=8.5, weight="bold")
    axes.text(left + 0.08, second, " + ".join(map(dimensions, inputs)) + f" → {shape}", va="center", fontsize=8)
    if node.parameters:
        axes.text(CARD - 0.11, second, f"{node.parameters:,} parameters", va="center", ha="right", fontsize=8)


def _arrow(axes: Any, points: list[tuple[float, float]], color: str) -> None:
    """A line through the points, with a head at the last."""
    axes.plot(*zip(*points[:-1], strict=True), color=color, linewidth=1, solid_capstyle="butt")
    axes.annotate("", points[-1], points[-2], arrowprops={"arrowstyle": "->", "color": color, "shrinkA": 0, "shrinkB": 0})
