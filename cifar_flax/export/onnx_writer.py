"""Writes a JAX function of images as an ONNX model: a node or a few for each primitive of its jaxpr.

A new primitive is an entry of `onnx_operations`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import Literal
from onnx import TensorProto, helper, numpy_helper

from cifar_flax.errors import UserError
from cifar_flax.export.onnx_operations import ELEMENTWISE, REMEDY, TRANSLATIONS

OPSET = 18  # the first in which every reduction takes its axes as an input; runtimes know it since 2023
IR_VERSION = 10  # of the file; the newest that runtimes of 2024 read
REASON = 200  # characters of the checker's words in a message
INPUT, OUTPUT, BATCH = "images", "logits", "batch"
INLINED = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}  # primitive -> its function
SAME = ("copy", "optimization_barrier", "stop_gradient")  # primitives that return what they are given

Value = np.ndarray | str  # a constant, or the name of a node's output


def to_onnx(function: Callable[[jax.Array], jax.Array], image_shape: Sequence[int], metadata: Mapping[str, str]) -> bytes:
    """Translates a function of a batch of any number of images.

    Args:
      function: from uint8 [N, *image_shape] to float32 [N, C], its parameters being constants.
      image_shape: of one image.
      metadata: texts that the file holds, by name.

    Returns:
      A serialised model with the input "images" and the output "logits" that has passed ONNX' own checker, which infers for
      each primitive the dtype and the shape that JAX gives it.

    Raises:
      UserError: the function uses a primitive, which the message names, that has no translation, or has one that does not
        pass.
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
        value_info=[helper.make_tensor_value_info(name, *about) for name, about in graph.expected.items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, dict(metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        reason = " ".join(str(e).split())[:REASON]
        raise UserError(f"ONNX: this network does not become a valid model ({reason}); {REMEDY}") from None
    del model.graph.value_info[:]  # runtimes infer the same
    return bytes(model.SerializeToString())


class Graph:
    """The nodes and constants of a graph. Values that depend on constants alone are computed at once and become constants.

    Attributes:
      nodes: in the order of their computation.
      constants: that they refer to.
      expected: {name of a node's output: (type of its elements, shape)}, as JAX has them; sizes that depend on the number of
        images are texts.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.expected: dict[str, tuple[int, list[int | str]]] = {}

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
        if name in SAME:
            return inputs
        if _is_constant(equation, inputs):
            outputs = equation.primitive.bind(*inputs, **params)
            return list(map(np.asarray, outputs if equation.primitive.multiple_results else [outputs]))
        if name in ELEMENTWISE:
            output: Value = self.node(ELEMENTWISE[name], *inputs)
        elif name in TRANSLATIONS:
            output = TRANSLATIONS[name](self, equation, *inputs)
        else:
            raise UserError(f"ONNX: there is no translation of JAX' {name}, which this network uses; {REMEDY}")
        if isinstance(output, str) and output != INPUT:
            aval = equation.outvars[0].aval
            shape = [size if isinstance(size, int) else str(size) for size in aval.shape]
            self.expected[output] = helper.np_dtype_to_tensor_dtype(aval.dtype), shape
        return [output]


def _is_constant(equation: Any, inputs: list[Value]) -> bool:
    """Whether the outputs of an equation are arrays that do not depend on the images or their number."""
    outputs = [variable.aval for variable in equation.outvars]
    return (
        all(isinstance(x, np.ndarray) for x in inputs)
        and all(isinstance(size, int) for aval in outputs for size in aval.shape)
        and not any(jnp.issubdtype(aval.dtype, jax.dtypes.extended) for aval in outputs)  # keys of random numbers
        and equation.primitive.name != "dim_as_value"  # the number of images
    )
