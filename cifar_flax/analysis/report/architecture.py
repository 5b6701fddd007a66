"""A drawing of a network: boxes with shapes and parameters, and arrows between them."""

from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cifar_flax.analysis.figures import BLUE, CARD, GREY, ORANGE, new_figure, short
from cifar_flax.analysis.report.graph import Node
from cifar_flax.analysis.report.layers import format_shape

LAYER, FUNCTION, GAP, LANE = 0.46, 0.24, 0.15, 0.13  # inches: heights of boxes, space between two, width of a lane beside them


def draw_network(nodes: list[Node], total: int) -> Figure:
    """Draws a box per node, with shapes and parameters, and arrows from the nodes it reads; at the left past other nodes.

    Args:
      nodes: from `network_graph`.
      total: number of parameters of the network.
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
    """Assigns the arrows past other nodes, {(source, target): lane}, each to the first lane beside the boxes that is free."""
    past = sorted((source, place) for place, node in enumerate(nodes) for source in node.sources if source < place - 1)
    taken: list[int] = []  # the node up to which each lane is in use
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
    shape = format_shape(node.shape)
    if not node.kind:
        axes.text(left + 0.08, top + height / 2, node.name, va="center", fontsize=8)
        axes.text(CARD - 0.11, top + height / 2, shape, va="center", ha="right", fontsize=8)
        return
    first, second = top + 0.3 * height, top + 0.72 * height
    axes.text(left + 0.08, first, short(f"{node.name}  ({node.kind})", 46), va="center", fontsize=8.5, weight="bold")
    axes.text(left + 0.08, second, " + ".join(map(format_shape, inputs)) + f" → {shape}", va="center", fontsize=8)
    if node.parameters:
        axes.text(CARD - 0.11, second, f"{node.parameters:,} parameters", va="center", ha="right", fontsize=8)


def _arrow(axes: Any, points: list[tuple[float, float]], color: str) -> None:
    """Draws a line through the points, with a head at the last."""
    axes.plot(*zip(*points[:-1], strict=True), color=color, linewidth=1, solid_capstyle="butt")
    axes.annotate("", points[-1], points[-2], arrowprops={"arrowstyle": "->", "color": color, "shrinkA": 0, "shrinkB": 0})
