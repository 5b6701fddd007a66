"""The nodes of ONNX for convolution and pooling. ONNX has channels before rows; runtimes remove transpositions that cancel.

The arguments of a translation are those of `onnx_operations`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cifar_flax.export.onnx_graph import Graph, Value, only
from cifar_flax.export.onnx_indexing import padded


def convolution(graph: Graph, equation: Any, x: Value, kernel: Value) -> Value:
    """A convolution over any number of axes, or a transposed one."""
    p = equation.params
    images, weights, result = p["dimension_numbers"].lhs_spec, p["dimension_numbers"].rhs_spec, p["dimension_numbers"].out_spec
    if not isinstance(kernel, np.ndarray) or p["batch_group_count"] != 1:
        raise only("a convolution by a constant kernel")
    shape = [equation.invars[0].aval.shape[axis] for axis in images]
    x, pads = _bordered(graph, graph.transpose(x, images), shape, p["padding"], p["lhs_dilation"], np.array(0, kernel.dtype))
    convolved = graph.node(
        "Conv",
        x,
        kernel.transpose(weights),
        strides=p["window_strides"],
        pads=pads,
        dilations=p["rhs_dilation"],
        group=p["feature_group_count"],
    )
    return graph.transpose(convolved, np.argsort(result).tolist())


def pooling(graph: Graph, equation: Any, x: Value) -> Value:
    """The largest, the smallest or the sum of the entries in windows over up to three axes."""
    p, kind, shape = equation.params, equation.primitive.name, equation.invars[0].aval.shape
    window, rank = p["window_dimensions"], len(p["window_dimensions"])
    windows = zip(window, p["window_strides"], p["padding"], p["base_dilation"], strict=True)
    still = [axis for axis, of_axis in enumerate(windows) if of_axis == (1, 1, (0, 0), 1)]  # axes without windows
    is_sum = kind == "reduce_window_sum"
    if len(still) < 2 or rank > 5 or (is_sum and {*p["window_dilation"]} != {1}):
        raise only("pooling over one to three axes of several channels, without gaps in the windows of a sum,")
    if not np.issubdtype(equation.invars[0].aval.dtype, np.floating):
        raise only("pooling of floating-point numbers")
    order = [still[0], still[-1], *(axis for axis in range(rank) if axis not in (still[0], still[-1]))]

    def over_axes(of_axes: Sequence[Any]) -> list[Any]:
        return [of_axes[axis] for axis in order[2:]]

    sizes, dtype, images = over_axes(window), equation.invars[0].aval.dtype, graph.transpose(x, order)
    if kind == "reduce_window_min":
        images = graph.node("Neg", images)
    outside = np.array(0 if is_sum else -np.inf, dtype)
    border = _bordered(
        graph, images, [shape[axis] for axis in order], over_axes(p["padding"]), over_axes(p["base_dilation"]), outside, sizes
    )
    attributes: dict[str, Any] = {"kernel_shape": sizes, "strides": over_axes(p["window_strides"]), "pads": border[1]}
    if is_sum:  # the mean over the whole window, times its size
        pooled = graph.node("AveragePool", border[0], **attributes, count_include_pad=1)
        pooled = graph.node("Mul", pooled, np.array(np.prod(sizes), dtype))
    else:
        pooled = graph.node("MaxPool", border[0], **attributes, dilations=over_axes(p["window_dilation"]))
    if kind == "reduce_window_min":
        pooled = graph.node("Neg", pooled)
    return graph.transpose(pooled, np.argsort(order).tolist())


def _bordered(
    graph: Graph,
    x: Value,
    shape: Sequence[Any],
    padding: Sequence[tuple[int, int]],
    spread: Sequence[int],
    outside: np.ndarray,
    window: Sequence[int] | None = None,
) -> tuple[Value, list[int]]:
    """Images, channels first, and the attribute `pads`; images that it has no words for are padded by nodes of their own.

    Args:
      graph: takes the nodes.
      x: images.
      shape: of them.
      padding: before and after each of the axes behind the channels.
      spread: the distance at which their entries are laid out before.
      outside: the value of what is padded.
      window: its sizes, which the padding of pooling has to be smaller than; None for a convolution.
    """
    before, after = zip(*padding, strict=True)
    too_much = window is not None and any(
        pad >= size for pads in (before, after) for pad, size in zip(pads, window, strict=True)
    )
    if min(before + after) >= 0 and {*spread} <= {1} and not too_much:
        return x, [*before, *after]
    config = [(0, 0, 0)] * 2 + [(*ends, step - 1) for ends, step in zip(padding, spread, strict=True)]
    return padded(graph, x, shape, config, outside), [0] * (2 * len(spread))
