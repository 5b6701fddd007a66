"""The nodes of ONNX that compute a primitive of JAX.

A translation takes the graph, the equation of the jaxpr and the values of its inputs; it adds nodes and returns the output, or
a list of the outputs. What it has no nodes for, it refuses: a parameter that it does not look at would be a wrong answer.
"""

import string
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.lax import RoundingMethod

from cifar_flax.export import onnx_indexing, onnx_windows
from cifar_flax.export.onnx_graph import Graph, Value, only

ELEMENTWISE = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "add": "Add",
    "and": "And",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
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
    "not": "Not",
    "or": "Or",
    "pow": "Pow",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tan": "Tan",
    "tanh": "Tanh",
    "xor": "Xor",
}

Translated = Value | list[Value]


def _broadcast(graph: Graph, equation: Any, x: Value, *_: Value) -> Value:
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    sizes = iter(equation.invars[0].aval.shape)
    spread = [next(sizes) if axis in axes else 1 for axis in range(len(shape))]
    x = graph.reshape(x, spread)
    return x if tuple(spread) == tuple(shape) else graph.node("Expand", x, graph.sizes(shape))


def _dot(graph: Graph, equation: Any, a: Value, b: Value) -> Value:
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


def _reduction(kind: str, dtype: Any = None) -> Callable[..., Value]:
    """A reduction; its operands are converted to `dtype` before, where ONNX takes none of theirs, and back after."""

    def translate(graph: Graph, equation: Any, x: Value) -> Value:
        if not (axes := equation.params["axes"]):
            return x  # ONNX takes no axes for all
        if equation.primitive.name in ("reduce_and", "reduce_or") and equation.invars[0].aval.dtype != bool:  # bit by bit
            raise only("a reduction by and, or by or, of truth values")
        operand = x if dtype is None else graph.cast(x, dtype)
        reduced = graph.node(kind, operand, np.array(axes, np.int64), keepdims=0)
        return reduced if dtype is None else graph.cast(reduced, equation.outvars[0].aval.dtype)

    return translate


def _best(kind: str) -> Callable[..., Value]:
    """The place of the largest or the smallest entry along an axis; of equal ones the first."""

    def translate(graph: Graph, equation: Any, x: Value) -> Value:
        (axis,) = equation.params["axes"]
        return graph.cast(graph.node(kind, x, axis=axis, keepdims=0), equation.params["index_dtype"])

    return translate


def _reshape(graph: Graph, equation: Any, x: Value) -> Value:
    order = equation.params["dimensions"]  # of the axes before, as Fortran's has them
    return graph.reshape(x if order is None else graph.transpose(x, order), equation.params["new_sizes"])


def _select(graph: Graph, equation: Any, which: Value, *cases: Value) -> Value:
    if equation.invars[0].aval.dtype != bool:  # a number of one of the cases
        raise only("a choice by a condition")
    no, yes = cases
    return graph.node("Where", which, yes, no)


def _round(graph: Graph, equation: Any, x: Value) -> Value:
    if equation.params["rounding_method"] == RoundingMethod.TO_NEAREST_EVEN:
        return graph.node("Round", x)
    nearest = graph.node("Floor", graph.node("Add", graph.node("Abs", x), np.array(0.5, np.float32)))
    return graph.node("Mul", graph.node("Sign", x), nearest)  # halves away from zero


def _cube_root(graph: Graph, equation: Any, x: Value) -> Value:
    root = graph.node("Pow", graph.node("Abs", x), np.array(1 / 3, np.float32))
    return graph.node("Mul", graph.node("Sign", x), root)


TRANSLATIONS: dict[str, Callable[..., Translated]] = {
    "argmax": _best("ArgMax"),
    "argmin": _best("ArgMin"),
    "broadcast_in_dim": _broadcast,
    "cbrt": _cube_root,
    "clamp": lambda graph, equation, low, x, high: graph.node("Min", graph.node("Max", x, low), high),
    "concatenate": onnx_indexing.concatenate,
    "conv_general_dilated": onnx_windows.convolution,
    "convert_element_type": lambda graph, equation, x: graph.cast(x, equation.params["new_dtype"]),
    "cumsum": lambda graph, equation, x: graph.node(
        "CumSum", x, np.array(equation.params["axis"], np.int64), reverse=int(equation.params["reverse"])
    ),
    "dot_general": _dot,
    "dynamic_slice": onnx_indexing.dynamic_slice,
    "erfc": lambda graph, equation, x: graph.node("Sub", np.array(1, np.float32), graph.node("Erf", x)),
    "exp2": lambda graph, equation, x: graph.node("Pow", np.array(2, np.float32), x),
    "expm1": lambda graph, equation, x: graph.node("Sub", graph.node("Exp", x), np.array(1, np.float32)),
    "gather": onnx_indexing.gather,
    "integer_pow": lambda graph, equation, x: graph.node("Pow", x, np.array(equation.params["y"], np.float32)),
    "is_finite": lambda graph, equation, x: graph.node("Not", graph.node("Or", graph.node("IsNaN", x), graph.node("IsInf", x))),
    "log1p": lambda graph, equation, x: graph.node("Log", graph.node("Add", x, np.array(1, np.float32))),
    "log2": lambda graph, equation, x: graph.node("Div", graph.node("Log", x), np.array(np.log(2), np.float32)),
    "ne": lambda graph, equation, a, b: graph.node("Not", graph.node("Equal", a, b)),
    "pad": onnx_indexing.pad,
    "reduce_and": _reduction("ReduceMin", np.int32),
    "reduce_max": _reduction("ReduceMax"),
    "reduce_min": _reduction("ReduceMin"),
    "reduce_or": _reduction("ReduceMax", np.int32),
    "reduce_prod": _reduction("ReduceProd"),
    "reduce_sum": _reduction("ReduceSum"),
    "reduce_window_max": onnx_windows.pooling,
    "reduce_window_min": onnx_windows.pooling,
    "reduce_window_sum": onnx_windows.pooling,
    "rem": lambda graph, equation, a, b: graph.node("Mod", a, b, fmod=1),
    "reshape": _reshape,
    "rev": onnx_indexing.reverse,
    "round": _round,
    "rsqrt": lambda graph, equation, x: graph.node("Reciprocal", graph.node("Sqrt", x)),
    "select_n": _select,
    "slice": onnx_indexing.slices,
    "sort": onnx_indexing.sort,
    "split": onnx_indexing.split,
    "square": lambda graph, equation, x: graph.node("Mul", x, x),
    "squeeze": lambda graph, equation, x: graph.reshape(x, equation.outvars[0].aval.shape),
    "stack": onnx_indexing.stack,
    "tile": lambda graph, equation, x: graph.node("Tile", x, graph.sizes(equation.params["reps"])),
    "top_k": onnx_indexing.top_k,
    "transpose": lambda graph, equation, x: graph.transpose(x, equation.params["permutation"]),
}
