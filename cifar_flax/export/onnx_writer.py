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
from onnx import TensorProto, helper

from cifar_flax.errors import UserError
from cifar_flax.export.onnx_graph import BATCH, INPUT, REMEDY, Graph, Value
from cifar_flax.export.onnx_operations import ELEMENTWISE, TRANSLATIONS

OPSET = 18  # the first in which every reduction takes its axes as an input; runtimes know it since 2023
IR_VERSION = 10  # of the file; the newest that runtimes of 2024 read
REASON = 200  # characters of the checker's words in a message
OUTPUT = "logits"
INLINED = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
}  # primitive -> its function
SAME = ("copy", "optimization_barrier", "stop_gradient")  # primitives that return what they are given


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
    with jax.disable_jit():  # has JAX unroll loops whose length is known
        closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *image_shape), np.uint8))
    translation = Translation()
    graph = translation.graph
    (logits,) = translation.translate(closed.jaxpr, closed.consts, [INPUT])
    graph.nodes.append(helper.make_node("Identity", [graph.name(logits)], [OUTPUT]))
    proto = helper.make_graph(
        graph.nodes,
        "network",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH, *image_shape])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, closed.out_avals[0].shape[-1]])],
        graph.constants,
        value_info=[helper.make_tensor_value_info(name, *about) for name, about in translation.expected.items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, dict(metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        reason = " ".join(str(e).split())[:REASON]
        raise UserError(f"ONNX: this network does not become a valid model ({reason}); {REMEDY}") from None
    except ValueError:  # of protobuf, whose messages end there
        raise UserError(f"ONNX: this network takes more than 2 GB, as no file of one part can; {REMEDY}") from None
    del model.graph.value_info[:]  # runtimes infer the same
    return bytes(model.SerializeToString())


class Translation:
    """A graph, and what JAX says of it. Values that depend on constants alone are computed at once and become constants.

    Attributes:
      graph: the nodes so far.
      expected: {name of a node's output: (type of its elements, shape)}, as JAX has them; sizes that depend on the number of
        images are texts.
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.expected: dict[str, tuple[int, list[int | str]]] = {}

    def translate(self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Value]) -> list[Value]:
        """Adds the nodes of a jaxpr with these constants, called with `arguments`; returns its outputs."""
        values: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, constants), strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Value:
            if isinstance(atom, Literal):
                return np.asarray(atom.val, atom.aval.dtype)  # type: ignore[attr-defined]  # all of ours are arrays
            if _is_empty(atom):
                return np.zeros([size if isinstance(size, int) else 0 for size in atom.aval.shape], atom.aval.dtype)
            return values[atom]

        for equation in _needed(jaxpr):
            values.update(zip(equation.outvars, self._equation(equation, list(map(read, equation.invars))), strict=True))
        return list(map(read, jaxpr.outvars))

    def _equation(self, equation: Any, inputs: list[Value]) -> list[Value]:
        name, params = equation.primitive.name, equation.params
        if name in INLINED:
            inner = params[INLINED[name]]  # closed, or without constants
            return self.translate(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
        if name in SAME:
            return inputs
        if _is_constant(equation, inputs):
            constants = equation.primitive.bind(*inputs, **params)
            return list(map(np.asarray, constants if equation.primitive.multiple_results else [constants]))
        if name in ELEMENTWISE:
            output: Value | list[Value] = self.graph.node(ELEMENTWISE[name], *inputs)
        elif name in TRANSLATIONS:
            output = TRANSLATIONS[name](self.graph, equation, *inputs)
        else:
            raise UserError(f"ONNX: there is no translation of JAX' {name}, which this network uses; {REMEDY}")
        outputs = output if isinstance(output, list) else [output]
        for variable, value in zip(equation.outvars, outputs, strict=True):
            if isinstance(value, str) and value != INPUT:
                shape = [size if isinstance(size, int) else str(size) for size in variable.aval.shape]
                self.expected[value] = helper.np_dtype_to_tensor_dtype(variable.aval.dtype), shape
        return outputs


def _needed(jaxpr: Any) -> list[Any]:
    """The equations that outputs depend on: keys of random numbers that a network makes and does not use are none."""
    needed, equations = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}, []
    for equation in reversed(jaxpr.eqns):
        if any(variable in needed and not _is_empty(variable) for variable in equation.outvars):
            needed.update(atom for atom in equation.invars if not isinstance(atom, Literal))
            equations.append(equation)
    return equations[::-1]


def _is_empty(atom: Any) -> bool:
    return 0 in getattr(atom.aval, "shape", ())


def _is_constant(equation: Any, inputs: list[Value]) -> bool:
    """Whether the outputs of an equation are arrays that do not depend on the images or their number."""
    outputs = [variable.aval for variable in equation.outvars]
    return (
        all(isinstance(x, np.ndarray) for x in inputs)
        and all(isinstance(size, int) for aval in outputs for size in aval.shape)
        and not any(jnp.issubdtype(aval.dtype, jax.dtypes.extended) for aval in outputs)  # keys of random numbers
        and equation.primitive.name != "dim_as_value"  # the number of images
    )
