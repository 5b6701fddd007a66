"""The nodes of ONNX that compute a primitive of JAX.

A function here takes the graph, the equation of the jaxpr and the values of its inputs; it adds nodes and returns the output.
What it has no nodes for, it refuses: a parameter that it does not look at would be a wrong answer.
"""

import string
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from cifar_flax.errors import UserError

if TYPE_CHECKING:
    from cifar_flax.export.onnx_writer import Graph, Value

ELEMENTWISE = {
    "abs": "Abs",
    "add": "Add",
    "div": "Div",
    "erf": "Erf",
    "exp": "Exp",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tanh": "Tanh",
}
REMEDY = "take --format=stablehlo"


def _only(what: str) -> UserError:
    return UserError(f"ONNX: only {what} is translated; {REMEDY}")


def _broadcast(graph: "Graph", equation: Any, x: "Value", *_: "Value") -> "Value":
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    sizes = iter(equation.invars[0].aval.shape)
    spread = graph.reshape(x, [next(sizes) if axis in axes else 1 for axis in range(len(shape))])
    return graph.node("Expand", spread, graph.sizes(shape))


def _convolution(graph: "Graph", equation: Any, x: "Value", kernel: "Value") -> "Value":
    """A convolution; ONNX has channels before rows, and runtimes remove transpositions that cancel."""
    p = equation.params
    numbers = p["dimension_numbers"]
    if (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)):
        raise _only("a convolution of NHWC images by HWIO kernels")
    if {*p["lhs_dilation"], p["batch_group_count"]} != {1}:
        raise _only("a convolution of images that are not spread out (as a transposed one with strides does)")
    before, after = zip(*p["padding"], strict=True)
    if min(before + after) < 0:
        raise _only("a convolution whose padding is not negative")
    if not isinstance(kernel, np.ndarray):
        raise _only("a convolution by a constant kernel")
    convolved = graph.node(
        "Conv",
        graph.node("Transpose", x, perm=(0, 3, 1, 2)),
        kernel.transpose(3, 2, 0, 1),
        strides=p["window_strides"],
        pads=(*before, *after),
        dilations=p["rhs_dilation"],
        group=p["feature_group_count"],
    )
    return graph.node("Transpose", convolved, perm=(0, 2, 3, 1))


def _dot(graph: "Graph", equation: Any, a: "Value", b: "Value") -> "Value":
    """A matrix product, or a sum of products over any axes, as attention has them."""
    (contracted, batched) = equation.params["dimension_numbers"]
    rank_a, rank_b = (len(atom.aval.shape) for atom in equation.invars)
    if tuple(map(tuple, contracted)) == ((rank_a - 1,), (0,)) and rank_b == 2 and not batched[0]:
        return graph.node("MatMul", a, b)
    letters = iter(string.ascii_letters)
    of_a = {axis: next(letters) for axis in range(rank_a)}
    shared = dict(zip((*batched[1], *contracted[1]), (of_a[axis] for axis in (*batched[0], *contracted[0])), strict=True))
    of_b = {axis: shared.get(axis) or next(letters) for axis in range(rank_b)}
    free_a = [of_a[axis] for axis in range(rank_a) if axis not in (*batched[0], *contracted[0])]
    free_b = [of_b[axis] for axis in range(rank_b) if axis not in shared]
    result = "".join([*(of_a[axis] for axis in batched[0]), *free_a, *free_b])
    return graph.node("Einsum", a, b, equation=f"{''.join(of_a.values())},{''.join(of_b.values())}->{result}")


def _concatenate(graph: "Graph", equation: Any, *parts: "Value") -> "Value":
    return graph.node("Concat", *parts, axis=equation.params["dimension"])


def _gather(graph: "Graph", equation: Any, x: "Value", indices: "Value") -> "Value":
    """Entries at constant places along one axis, as `x[:, 0]` and `jnp.take` have them."""
    numbers, sizes, shape = equation.params["dimension_numbers"], equation.params["slice_sizes"], equation.invars[0].aval.shape
    axes, rank = numbers.start_index_map, len(equation.outvars[0].aval.shape)
    one_axis = len(axes) == 1 and numbers.collapsed_slice_dims == axes and not numbers.operand_batching_dims
    others = [size == shape[axis] for axis, size in enumerate(sizes) if axis not in axes]
    if not (isinstance(indices, np.ndarray) and one_axis and all(others)):
        raise _only("indexing of one axis by constants")
    if indices.size and not 0 <= indices.min() <= indices.max() < shape[axes[0]]:
        raise _only("indexing within an array")  # JAX gives what `mode` says; runtimes fail
    places = [axis for axis in range(rank) if axis not in numbers.offset_dims]
    if places != list(range(axes[0], axes[0] + len(places))):
        raise _only("indexing that keeps the order of the axes")
    return graph.node("Gather", x, indices[..., 0].astype(np.int64), axis=axes[0])


def _reduction(kind: str) -> Callable[..., "Value"]:
    def translate(graph: "Graph", equation: Any, x: "Value") -> "Value":
        axes = equation.params["axes"]
        return graph.node(kind, x, np.array(axes, np.int64), keepdims=0) if axes else x  # ONNX takes no axes for all

    return translate


def _pooling(graph: "Graph", equation: Any, x: "Value") -> "Value":
    """The maximum or the sum over windows of rows and columns of NHWC images; ONNX has channels first."""
    p, is_max = equation.params, equation.primitive.name == "reduce_window_max"
    window, strides, padding = p["window_dimensions"], p["window_strides"], p["padding"]
    dilated = {*p["base_dilation"], *p["window_dilation"]} != {1}
    if len(window) != 4 or dilated or any((window[axis], strides[axis], padding[axis]) != (1, 1, (0, 0)) for axis in (0, 3)):
        raise _only("pooling over rows and columns of NHWC images")
    before, after = zip(*padding[1:3], strict=True)
    if any(not 0 <= pad < size for pads in (before, after) for pad, size in zip(pads, window[1:3], strict=True)):
        raise _only("pooling with padding of 0 or more that is smaller than the window")
    attributes = {"kernel_shape": window[1:3], "strides": strides[1:3], "pads": (*before, *after)}
    if not is_max:
        attributes["count_include_pad"] = 1  # the mean over the whole window, times its size, is the sum
    pooled = graph.node("MaxPool" if is_max else "AveragePool", graph.node("Transpose", x, perm=(0, 3, 1, 2)), **attributes)
    if not is_max:
        pooled = graph.node("Mul", pooled, np.array(window[1] * window[2], np.float32))
    return graph.node("Transpose", pooled, perm=(0, 2, 3, 1))


def _slice(graph: "Graph", equation: Any, x: "Value") -> "Value":
    p, shape = equation.params, equation.invars[0].aval.shape
    steps = p["strides"] or (1,) * len(shape)
    bounds = zip(p["start_indices"], p["limit_indices"], range(len(shape)), steps, strict=True)
    cut = [bound for bound in bounds if bound != (0, shape[bound[2]], bound[2], 1)]
    if not all(isinstance(number, int) for bound in cut for number in bound):
        raise _only("slicing of other axes than that of the images")
    return graph.node("Slice", x, *(np.array(column, np.int64) for column in zip(*cut, strict=True))) if cut else x


def _select(graph: "Graph", equation: Any, which: "Value", *cases: "Value") -> "Value":
    if equation.invars[0].aval.dtype != bool:  # a number of one of the cases
        raise _only("a choice by a condition")
    no, yes = cases
    return graph.node("Where", which, yes, no)


TRANSLATIONS: dict[str, Callable[..., "Value"]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "convert_element_type": lambda graph, equation, x: graph.node(
        "Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"]))
    ),
    "dot_general": _dot,
    "erfc": lambda graph, equation, x: graph.node("Sub", np.array(1, np.float32), graph.node("Erf", x)),
    "expm1": lambda graph, equation, x: graph.node("Sub", graph.node("Exp", x), np.array(1, np.float32)),
    "gather": _gather,
    "integer_pow": lambda graph, equation, x: graph.node("Pow", x, np.array(equation.params["y"], np.float32)),
    "reduce_max": _reduction("ReduceMax"),
    "reduce_sum": _reduction("ReduceSum"),
    "reduce_window_max": _pooling,
    "reduce_window_sum": _pooling,
    "log1p": lambda graph, equation, x: graph.node("Log", graph.node("Add", x, np.array(1, np.float32))),
    "ne": lambda graph, equation, a, b: graph.node("Not", graph.node("Equal", a, b)),
    "reshape": lambda graph, equation, x: graph.reshape(x, equation.params["new_sizes"]),
    "rsqrt": lambda graph, equation, x: graph.node("Reciprocal", graph.node("Sqrt", x)),
    "select_n": _select,
    "slice": _slice,
    "square": lambda graph, equation, x: graph.node("Mul", x, x),
    "squeeze": lambda graph, equation, x: graph.reshape(x, equation.outvars[0].aval.shape),
    "tile": lambda graph, equation, x: graph.node("Tile", x, graph.sizes(equation.params["reps"])),
    "transpose": lambda graph, equation, x: graph.node("Transpose", x, perm=equation.params["permutation"]),
}
