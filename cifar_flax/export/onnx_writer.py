"""From a JAX function of images to an ONNX model: a node or a few for each primitive of its jaxpr.

A new primitive is an entry of ELEMENTWISE or a function in TRANSLATIONS.
"""

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

Value = np.ndarray | str  # known already, or the name of what the graph computes


def to_onnx(function: Callable[[jax.Array], jax.Array], image_shape: Sequence[int], metadata: Mapping[str, str]) -> bytes:
    """Translates a function of a batch of images, whatever their number.

    Args:
      function: from uint8 [N, *image_shape] to float32 [N, C], its parameters being constants.
      image_shape: of one image.
      metadata: texts that the file keeps, by name.

    Returns:
      A serialised model with the input "images" and the output "logits" that has passed ONNX' own checker.

    Raises:
      UserError: there is no translation of a primitive that the function uses, which is named.
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
    """Nodes and constants so far; what depends on constants alone is computed at once and becomes a constant."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def translate(self, closed: Any, arguments: Sequence[Value]) -> list[Value]:
        """Adds what a closed jaxpr computes of `arguments`; returns its outputs."""
        jaxpr = closed.jaxpr
        known: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Value:
            if isinstance(atom, Literal):
                return np.asarray(atom.val, atom.aval.dtype)  # type: ignore[attr-defined]  # all of ours are arrays
            return known[atom]

        for equation in jaxpr.eqns:
            known.update(zip(equation.outvars, self._equation(equation, list(map(read, equation.invars))), strict=True))
        return list(map(read, jaxpr.outvars))

    def node(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with one output; returns the name of that."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(map(self.name, inputs)), [output], **attributes))
        return output

    def name(self, value: Value) -> str:
        """What nodes call a value; a constant is added to the graph."""
        if isinstance(value, str):
            return value
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), f"constant_{len(self.constants)}"))
        return str(self.constants[-1].name)

    def reshape(self, x: Value, shape: Sequence[Any]) -> str:
        """`x` with another shape, in which the number of images, not known yet, may be one axis."""
        return self.node("Reshape", x, np.array([size if isinstance(size, int) else -1 for size in shape], np.int64))

    def expand(self, x: Value, shape: Sequence[Any]) -> str:
        """`x` broadcast to `shape`, likewise."""
        if all(isinstance(size, int) for size in shape):
            return self.node("Expand", x, np.array(shape, np.int64))
        images = self.node("Shape", INPUT, start=0, end=1)
        parts = [np.array([size], np.int64) if isinstance(size, int) else images for size in shape]
        return self.node("Expand", x, self.node("Concat", *parts, axis=0))

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
        raise UserError(f"ONNX: there is no translation of JAX' {name}, which this network uses; take --format=stablehlo")


def _broadcast(graph: Graph, equation: Any, x: Value, *_: Value) -> Value:
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    own = iter(equation.invars[0].aval.shape)
    spread = graph.reshape(x, [next(own) if axis in axes else 1 for axis in range(len(shape))])
    return graph.expand(spread, shape)


def _convolution(graph: Graph, equation: Any, x: Value, kernel: Value) -> Value:
    """ONNX has channels before rows; runtimes take out the transpositions of which one undoes the other."""
    p = equation.params
    numbers = p["dimension_numbers"]
    if (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)):
        raise UserError("ONNX: only convolutions of NHWC images by HWIO kernels are translated; take --format=stablehlo")
    before, after = zip(*p["padding"], strict=True)
    if not isinstance(kernel, np.ndarray):
        raise UserError("ONNX: only convolutions by constant kernels are translated; take --format=stablehlo")
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
    (contracted, batched), rank = equation.params["dimension_numbers"], len(equation.invars[0].aval.shape)
    if tuple(map(tuple, contracted)) != ((rank - 1,), (0,)) or batched != ((), ()) or len(equation.invars[1].aval.shape) != 2:
        raise UserError("ONNX: only products of features and a matrix are translated; take --format=stablehlo")
    return graph.node("MatMul", a, b)


def _reduction(kind: str) -> Callable[..., Value]:
    def translate(graph: Graph, equation: Any, x: Value) -> Value:
        return graph.node(kind, x, np.array(equation.params["axes"], np.int64), keepdims=0)

    return translate


def _slice(graph: Graph, equation: Any, x: Value) -> Value:
    p, shape = equation.params, equation.invars[0].aval.shape
    steps = p["strides"] or (1,) * len(shape)
    bounds = zip(p["start_indices"], p["limit_indices"], range(len(shape)), steps, strict=True)
    cut = [bound for bound in bounds if bound != (0, shape[bound[2]], bound[2], 1)]  # not the axis of images
    return graph.node("Slice", x, *(np.array(column, np.int64) for column in zip(*cut, strict=True))) if cut else x


TRANSLATIONS: dict[str, Callable[..., Value]] = {
    "broadcast_in_dim": _broadcast,
    "conv_general_dilated": _convolution,
    "convert_element_type": lambda graph, equation, x: graph.node(
        "Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"]))
    ),
    "dot_general": _dot,
    "erfc": lambda graph, equation, x: graph.node("Sub", np.array(1, np.float32), graph.node("Erf", x)),
    "integer_pow": lambda graph, equation, x: graph.node("Pow", x, np.array(equation.params["y"], np.float32)),
    "reduce_max": _reduction("ReduceMax"),
    "reduce_sum": _reduction("ReduceSum"),
    "reshape": lambda graph, equation, x: graph.reshape(x, equation.params["new_sizes"]),
    "rsqrt": lambda graph, equation, x: graph.node("Reciprocal", graph.node("Sqrt", x)),
    "select_n": lambda graph, equation, which, no, yes: graph.node("Where", which, yes, no),
    "slice": _slice,
    "square": lambda graph, equation, x: graph.node("Mul", x, x),
    "squeeze": lambda graph, equation, x: graph.reshape(x, equation.outvars[0].aval.shape),
}
