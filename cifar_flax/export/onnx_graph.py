"""A graph of ONNX while it is written: its nodes and constants."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cifar_flax.errors import UserError

INPUT, BATCH = "images", "batch"  # the name of the graph's input, and of the number of images in it
MULTIPLE = re.compile(rf"(?:(\d+)\*)?{BATCH}")  # of the number of images, as JAX writes a size
REMEDY = "take --format=stablehlo"

Value = np.ndarray | str  # a constant, or the name of a node's output


def only(what: str) -> UserError:
    """The error for an operation that is not translated; `what` says which are."""
    return UserError(f"ONNX: only {what} is translated; {REMEDY}")


class Graph:
    """The nodes and constants of a graph.

    Attributes:
      nodes: in the order of their computation.
      constants: that they refer to.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: dict[tuple[Any, ...], str] = {}  # of constants, by what they are

    def node(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with one output; returns the name of the output."""
        return self.outputs(1, kind, *inputs, **attributes)[0]

    def outputs(self, count: int, kind: str, *inputs: Value, **attributes: Any) -> list[str]:
        """Adds a node with several outputs; returns their names."""
        names = [f"{kind.lower()}_{len(self.nodes)}{f'_{i}' if i else ''}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, list(map(self.name, inputs)), names, **attributes))
        return names

    def name(self, value: Value) -> str:
        """The name by which nodes refer to a value; a constant is added to the graph, once."""
        if isinstance(value, str):
            return value
        array = np.asarray(value, order="C")
        content = array.dtype.name, array.shape, hashlib.sha256(array.tobytes()).digest()
        if content not in self._names:
            self._names[content] = f"constant_{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, self._names[content]))
        return self._names[content]

    def reshape(self, x: Value, shape: Sequence[Any]) -> str:
        """Reshapes `x`; one axis of `shape` may depend on the number of images, which a graph leaves open."""
        return self.node("Reshape", x, np.array([size if isinstance(size, int) else -1 for size in shape], np.int64))

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """Puts the axes of `x` into another order."""
        if list(axes) == sorted(axes):
            return x
        return x.transpose(axes) if isinstance(x, np.ndarray) else self.node("Transpose", x, perm=list(axes))

    def cast(self, x: Value, dtype: Any) -> str:
        """Converts the elements of `x`."""
        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def sizes(self, shape: Sequence[Any]) -> Value:
        """A shape, in which axes may be a multiple of the number of images, as an int64 vector.

        Raises:
          UserError: an axis depends on the number of images in another way.
        """
        if all(isinstance(size, int) for size in shape):
            return np.array(shape, np.int64)
        return self.node("Concat", *map(self._size, shape), axis=0)

    def _size(self, size: Any) -> Value:
        if isinstance(size, int):
            return np.array([size], np.int64)
        if (match := MULTIPLE.fullmatch(str(size))) is None:
            raise UserError(f"ONNX: this network makes an array of {size} rows or columns, which is not translated; {REMEDY}")
        images = self.node("Shape", INPUT, start=0, end=1)
        return images if match[1] is None else self.node("Mul", images, np.array([int(match[1])], np.int64))
