"""A drawing of a network: boxes with shapes and parameters, and arrows between them."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cifar_flax.analysis.figures import BLUE, CARD, GREY, ORANGE, short
from cifar_flax.analysis.report.graph import Node
from cifar_flax.analysis.report.layers import format_shape

LAYER, FUNCTION, GAP, LANE = 0.46, 0.24, 0.15, 0.13  # inches: heights of boxes, space between two, width of a lane beside them
PARTS, PART_NODES = 3, 8  # at most so many figures, each of at least about so many boxes


def draw_network(nodes: list[Node]) -> list[Figure]:
    """Draws a box per node, with shapes and parameters, and arrows from the nodes it reads; at the left past other nodes.

    A long network is drawn in up to three figures of about the same height, to be shown side by side.

    Args:
      nodes: from `network_graph`.
    """
    return [_draw_part(nodes, part) for part in split_network(nodes)]


def split_network(nodes: list[Node]) -> list[range]:
    """Splits a network where a single arrow leads on, into parts of about the same height: the places of their nodes."""
    tops = np.concatenate([[0], np.cumsum([_height(node) + GAP for node in nodes])])
    past = side_lanes(nodes)
    places = [place for place in range(1, len(nodes)) if not any(source < place <= target for source, target in past)]
    count = min(PARTS, -(-len(nodes) // PART_NODES))
    cuts = {min(places, key=lambda p: abs(tops[p] - tops[-1] * k / count)) for k in range(1, count) if places}
    edges = [0, *sorted(cuts), len(nodes)]
    return [range(*pair) for pair in itertools.pairwise(edges)]


def _draw_part(nodes: list[Node], part: range) -> Figure:
    lanes = {arrow: lane for arrow, lane in side_lanes(nodes).items() if arrow[1] in part}
    left = 0.05 + LANE * (1 + max(lanes.values(), default=-1))
    begin = GAP if part.start else 0.0
    heights = {place: _height(nodes[place]) for place in part}
    tops = {place: begin + sum(heights[earlier] + GAP for earlier in range(part.start, place)) for place in part}
    bottom = tops[part[-1]] + heights[part[-1]] + (GAP if part.stop < len(nodes) else 0.05)
    figure = Figure(figsize=(CARD, bottom + 0.1))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, CARD), ylim=(bottom, -0.05))
    axes.set_axis_off()
    for place in part:
        node, top = nodes[place], tops[place]
        _box(axes, node, [nodes[source].shape for source in node.sources], left, top, heights[place])
        if place - 1 in node.sources:
            _arrow(axes, [(CARD / 2, top - GAP), (CARD / 2, top)], GREY)
    if part.stop < len(nodes):  # it goes on at the top of the next part
        axes.plot([CARD / 2] * 2, [bottom - GAP, bottom], color=GREY, linewidth=1)
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


def _height(node: Node) -> float:
    return LAYER if node.kind else FUNCTION


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
