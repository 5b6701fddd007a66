"""Writes a JAX function of images as an ONNX model: a node or a few for each primitive of its jaxpr.

A new primitive is an entry of ELEMENTWISE or a function in TRANSLATIONS.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend.core import Literal
from onnx import TensorProto, helper, numpy_helper

from cifar_flax.errors import UserError

OPSET = 18  # the first in which every reduction takes its axes as an input; runtimes know it since 2023
IR_VERSION = 10  # of the file; the newest that runtimes of 2024 read
INPUT, OUTPUT, BATCH = "images", "logits", "batch"
INLINED = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}  # primitive -> its function
ELEMENTWISE = {
    "abs": "Abs",
    "add": "Add",
    "copy": "Identity",
    "optimization_barrier": "Identity",
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
    "stop_gradient": "Identity",
    "sub": "Sub",
    "tanh": "Tanh",
}
REMEDY = "take --format=stablehlo"

Value = np.ndarray | str  # a constant, or the name of a node's output


def to_onnx(function: Callable[[jax.Array], jax.Array], image_shape: Sequence[int], metadata: Mapping[str, str]) -> bytes:
    """Translates a function of a batch of any number of images.

    Args:
      function: from uint8 [N, *image_shape] to float32 [N, C], its parameters being constants.
      image_shape: of one image.
      metadata: texts that the file holds, by name.

    Returns:
      A serialised model with the input "images" and the output "logits" that has passed ONNX' own checker.

    Raises:
      UserError: the function uses a primitive, which the message names, that has no translation.
    """
    (batch,) = jax.export.symbolic_shape(BATCH)
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *image_shape), np.uint8))
    graph = Graph()
    (logits,) = graph.translate(closed, [INPUT])
    graph.nodes.append(helper.make_node("Identity", [graph.name(logits)], [OUTPUT]))
    proto = helper.make_graph(
        graph.nodes,
        "network",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH, *image_shape])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, closed.out_avals[0].shape[-1]])],
        graph.constants,
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


class Graph:
    """The nodes and constants of a graph. Values that depend on constants alone are computed at once and become constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def translate(self, closed: Any, arguments: Sequence[Value]) -> list[Value]:
        """Adds the nodes of a closed jaxpr, called with `arguments`; returns its outputs."""
        jaxpr = closed.jaxpr
        values: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Value:
            if isinstance(atom, Literal):
                return np.asarray(atom.val, atom.aval.dtype)  # type: ignore[attr-defined]  # all of ours are arrays
            return values[atom]

        for equation in jaxpr.eqns:
            values.update(zip(equation.outvars, self._equation(equation, list(map(read, equation.invars))), strict=True))
        return list(map(read, jaxpr.outvars))

    def node(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with one output; returns the name of the output."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(map(self.name, inputs)), [output], **attributes))
        return output

    def name(self, value: Value) -> str:
        """The name by which nodes refer to a value; a constant is added to the graph."""
        if isinstance(value, str):
            return value
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), f"constant_{len(self.constants)}"))
        return str(self.constants[-1].name)

    def reshape(self, x: Value, shape: Sequence[Any]) -> str:
        """Reshapes `x`; one axis of `shape` may depend on the number of images, which a graph leaves open."""
        return self.node("Reshape", x, np.array([size if isinstance(size, int) else -1 for size in shape], np.int64))

    def sizes(self, shape: Sequence[Any]) -> Value:
        """A shape, in which axes may be the number of images, as an int64 vector.

        Raises:
          UserError: an axis depends on the number of images in another way.
        """
        if all(isinstance(size, int) for size in shape):
            return np.array(shape, np.int64)
        if any(str(size) != BATCH for size in shape if not isinstance(size, int)):
            raise UserError(f"ONNX: this network makes an array of the shape {shape}, which is not translated; {REMEDY}")
        images = self.node("Shape", INPUT, start=0, end=1)
        return self.node("Concat", *(np.array([size], np.int64) if isinstance(size, int) else images for size in shape), axis=0)

    def _equation(self, equation: Any, inputs: list[Value]) -> list[Value]:
        name, params = equation.primitive.name, equation.params
        if name in INLINED:
            return self.translate(params[INLINED[name]], inputs)
        shape = equation.outvars[0].aval.shape
        if all(isinstance(x, np.ndarray) for x in inputs) and all(isinstance(size, int) for size in shape):
            return [np.asarray(equation.primitive.bind(*inputs, **params))]
        if name in ELEMENTWISE:
            return [self.node(ELEMENTWISE[name], *inputs)]
        if name in TRANSLATIONS:
            return [TRANSLATIONS[name](self, equation, *inputs)]
        raise UserError(f"ONNX: there is no translation of JAX' {name}, which this network uses; {REMEDY}")


def _broadcast(graph: Graph, equation: Any, x: Value, *_: Value) -> Value:
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    sizes = iter(equation.invars[0].aval.shape)
    spread = graph.reshape(x, [next(sizes) if axis in axes else 1 for axis in range(len(shape))])
    return graph.node("Expand", spread, graph.sizes(shape))


def _convolution(graph: Graph, equation: Any, x: Value, kernel: Value) -> Value:
    """A convolution; ONNX has channels before rows, and runtimes remove transpositions that cancel."""
    p = equation.params
    numbers = p["dimension_numbers"]
    if (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)):
        raise UserError("ONNX: only convolutions of NHWC images by HWIO kernels are translated; " + REMEDY)
    before, after = zip(*p["padding"], strict=True)
    if not isinstance(kernel, np.ndarray):
        raise UserError("ONNX: only convolutions by constant kernels are translated; " + REMEDY)
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


def _concatenate(graph: Graph, equation: Any, *parts: Value) -> Value:
    return graph.node("Concat", *parts, axis=equation.params["dimension"])


def _gather(graph: Graph, equation: Any, x: Value, indices: Value) -> Value:
    """Entries at constant places along one axis, as `x[:, 0]` and `jnp.take` have them."""
    numbers, sizes, shape = equation.params["dimension_numbers"], equation.params["slice_sizes"], equation.invars[0].aval.shape
    axes, rank = numbers.start_index_map, len(equation.outvars[0].aval.shape)
    one_axis = len(axes) == 1 and numbers.collapsed_slice_dims == axes and not numbers.operand_batching_dims
    others = [size == shape[axis] for axis, size in enumerate(sizes) if axis not in axes]
    if not (isinstance(indices, np.ndarray) and one_axis and all(others)):
        raise UserError("ONNX: only indexing of one axis by constants is translated; " + REMEDY)
    places = [axis for axis in range(rank) if axis not in numbers.offset_dims]
    if places != list(range(axes[0], axes[0] + len(places))):
        raise UserError("ONNX: only indexing that keeps the order of the axes is translated; " + REMEDY)
    return graph.node("Gather", x, indices[..., 0].astype(np.int64), axis=axes[0])


def _reduction(kind: str) -> Callable[..., Value]:
    def translate(graph: Graph, equation: Any, x: Value) -> Value:
        return graph.node(kind, x, np.array(equation.params["axes"], np.int64), keepdims=0)

    return translate


def _pooling(graph: Graph, equation: Any, x: Value) -> Value:
    """The maximum or the sum over windows of rows and columns of NHWC images; ONNX has channels first."""
    p, is_max = equation.params, equation.primitive.name == "reduce_window_max"
    window, strides, padding = p["window_dimensions"], p["window_strides"], p["padding"]
    dilated = {*p["base_dilation"], *p["window_dilation"]} != {1}
    if len(window) != 4 or dilated or any((window[axis], strides[axis], padding[axis]) != (1, 1, (0, 0)) for axis in (0, 3)):
        raise UserError("ONNX: only pooling over rows and columns of NHWC images is translated; " + REMEDY)
    before, after = zip(*padding[1:3], strict=True)
    attributes = {"kernel_shape": window[1:3], "strides": strides[1:3], "pads": (*before, *after)}
    if not is_max:
        attributes["count_include_pad"] = 1  # the mean over the whole window, times its size, is the sum
    pooled = graph.node("MaxPool" if is_max else "AveragePool", graph.node("Transpose", x, perm=(0, 3, 1, 2)), **attributes)
    if not is_max:
        pooled = graph.node("Mul", pooled, np.array(window[1] * window[2], np.float32))
    return graph.node("Transpose", pooled, perm=(0, 2, 3, 1))


def _slice(graph: Graph, equation: Any, x: Value) -> Value:
    p, shape = equation.params, equation.invars[0].aval.shape
    steps = p["strides"] or (1,) * len(shape)
    bounds = zip(p["start_indices"], p["limit_indices"], range(len(shape)), steps, strict=True)
    cut = [bound for bound in bounds if bound != (0, shape[bound[2]], bound[2], 1)]  # not the axis of images
    return graph.node("Slice", x, *(np.array(column, np.int64) for column in zip(*cut, strict=True))) if cut else x


TRANSLATIONS: dict[str, Callable[..., Value]] = {
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
    "select_n": lambda graph, equation, which, no, yes: graph.node("Where", which, yes, no),
    "slice": _slice,
    "square": lambda graph, equation, x: graph.node("Mul", x, x),
    "squeeze": lambda graph, equation, x: graph.reshape(x, equation.outvars[0].aval.shape),
    "tile": lambda graph, equation, x: graph.node("Tile", x, graph.sizes(equation.params["reps"])),
    "transpose": lambda graph, equation, x: graph.node("Transpose", x, perm=equation.params["permutation"]),
}
