"""The nodes of ONNX that take arrays apart and put them together: slices, entries at constant places, padding, sorting.

The arguments of a translation are those of `onnx_operations`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cifar_flax.export.onnx_graph import Graph, Value, only

END = np.iinfo(np.int64).min  # of a slice that goes backwards to the first entry


def slices(graph: Graph, equation: Any, x: Value) -> Value:
    """A slice, with steps, of other axes than that of the images."""
    p, shape = equation.params, equation.invars[0].aval.shape
    steps = p["strides"] or (1,) * len(shape)
    bounds = zip(p["start_indices"], p["limit_indices"], range(len(shape)), steps, strict=True)
    cut = [bound for bound in bounds if bound != (0, shape[bound[2]], bound[2], 1)]
    if not all(isinstance(number, int) for bound in cut for number in bound):
        raise only("slicing of other axes than that of the images")
    return _cut(graph, x, cut)


def dynamic_slice(graph: Graph, equation: Any, x: Value, *starts: Value) -> Value:
    """A slice of constant size that begins at a constant place."""
    shape, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    taken = [axis for axis, size in enumerate(sizes) if size != shape[axis]]
    if not all(isinstance(starts[axis], np.ndarray) and isinstance(shape[axis], int) for axis in taken):
        raise only("slicing, at constant places, of other axes than that of the images")
    first = {axis: int(np.clip(starts[axis], 0, shape[axis] - sizes[axis])) for axis in taken}
    return _cut(graph, x, [(first[axis], first[axis] + sizes[axis], axis, 1) for axis in taken])


def reverse(graph: Graph, equation: Any, x: Value) -> Value:
    """The entries along some axes from the last to the first."""
    return _cut(graph, x, [(-1, END, axis, -1) for axis in equation.params["dimensions"]])


def split(graph: Graph, equation: Any, x: Value) -> list[Value]:
    """Parts along one axis."""
    p = equation.params
    if not all(isinstance(size, int | np.integer) for size in p["sizes"]):
        raise only("splitting of other axes than that of the images")
    return [*graph.outputs(len(p["sizes"]), "Split", x, np.array(p["sizes"], np.int64), axis=p["axis"])]


def concatenate(graph: Graph, equation: Any, *parts: Value) -> Value:
    """Arrays after one another; runtimes are not asked about empty ones."""
    filled = [part for part in parts if isinstance(part, str) or part.size]
    return graph.node("Concat", *filled, axis=equation.params["dimension"])


def stack(graph: Graph, equation: Any, *parts: Value) -> Value:
    """Arrays beside one another along a new axis."""
    axis, shape = equation.params["axis"], equation.invars[0].aval.shape
    return graph.node("Concat", *(graph.reshape(part, (*shape[:axis], 1, *shape[axis:])) for part in parts), axis=axis)


def gather(graph: Graph, equation: Any, x: Value, indices: Value) -> Value:
    """Entries at constant places, the same in every image, as `x[:, 0]`, `x[:, ::2, 1:]` and `jnp.take` have them.

    JAX itself tells which they are: it gathers from an array of the numbers of all entries of an image.
    """
    shape, result, sizes = (*(v.aval.shape for v in (equation.invars[0], equation.outvars[0])), equation.params["slice_sizes"])
    of_images = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    into = [axis for axis, size in enumerate(result) if not isinstance(size, int)]
    alike = len(of_images) == len(into) == 1 and sizes[of_images[0]] == shape[of_images[0]]
    if not alike or not isinstance(indices, np.ndarray):
        raise only("indexing by constants, of all images alike,")
    (batch,), (place,) = of_images, into
    rest = [size for size in shape if isinstance(size, int)]
    numbers = np.expand_dims(np.arange(math.prod(rest), dtype=np.int32).reshape(rest), batch)
    params = {**equation.params, "slice_sizes": (*sizes[:batch], 1, *sizes[batch + 1 :]), "fill_value": -1}
    taken = np.asarray(equation.primitive.bind(numbers, indices, **params)).squeeze(place)
    if taken.size and taken.min() < 0:  # JAX gives what `mode` says; runtimes fail
        raise only("indexing within an array")
    whole: list[int] = []
    while rest and _takes_all(taken, rest[-1]):  # of the last axis: its entries need not be numbered
        taken, whole = taken[..., 0] // rest[-1], [rest.pop(), *whole]
    first = graph.transpose(x, [batch, *(axis for axis in range(len(shape)) if axis != batch)])
    entries = graph.node("Gather", graph.reshape(first, [shape[batch], math.prod(rest), *whole]), taken, axis=1)
    return graph.transpose(entries, [*range(1, place + 1), 0, *range(place + 1, len(result))])


def pad(graph: Graph, equation: Any, x: Value, value: Value) -> Value:
    """A constant around an array and between its entries; less than nothing cuts entries off."""
    return padded(graph, x, equation.invars[0].aval.shape, equation.params["padding_config"], value)


def padded(graph: Graph, x: Value, shape: Sequence[Any], config: Sequence[tuple[int, int, int]], value: Value) -> Value:
    """Pads `x` as `jax.lax.pad` does.

    Args:
      graph: takes the nodes.
      x: an array.
      shape: its shape.
      config: for each axis the entries before the first, after the last and between two neighbours; the first two may be
        negative.
      value: a scalar of the dtype of `x`.

    Raises:
      UserError: the images themselves are padded.
    """
    config = [tuple(map(int, entry)) for entry in config]  # type: ignore[misc]
    if any(any(entry) for entry, size in zip(config, shape, strict=True) if not isinstance(size, int)):
        raise only("padding of other axes than that of the images")
    between = [entry[2] for entry in config]
    if any(between):  # each entry gets an axis of its own, which is padded after it
        rows = graph.reshape(x, [part for size in shape for part in (size, 1)])
        ends = [0] * (3 * len(shape)) + between
        ends[2 * len(shape) :] = [part for count in between for part in (0, count)]
        rows = graph.node("Pad", rows, np.array(ends, np.int64), value)
        shape = [size * (1 + count) if count else size for size, count in zip(shape, between, strict=True)]
        x = graph.reshape(rows, shape)
    before, after = [entry[0] for entry in config], [entry[1] - entry[2] for entry in config]
    if max(before + after) > 0:
        x = graph.node("Pad", x, np.maximum(np.array(before + after, np.int64), 0), value)
    cut = []
    for axis, (left, right) in enumerate(zip(before, after, strict=True)):
        if min(left, right) < 0:
            cut.append((max(-left, 0), shape[axis] + max(left, 0) + max(right, 0) - max(-right, 0), axis, 1))
    return _cut(graph, x, cut)


def sort(graph: Graph, equation: Any, *arrays: Value) -> list[Value]:
    """The entries along an axis from the smallest to the largest."""
    axis, shape = equation.params["dimension"], equation.invars[0].aval.shape
    if len(arrays) != 1 or not isinstance(shape[axis], int):
        raise only("sorting of one array, of another axis than that of the images,")
    return _largest(graph, arrays[0], shape[axis], axis, largest=0)[:1]


def top_k(graph: Graph, equation: Any, x: Value) -> list[Value]:
    """The largest entries along an axis and their places; of equal ones the first."""
    values, places = _largest(graph, x, equation.params["k"], equation.params["axis"], largest=1)
    return [values, graph.cast(places, equation.outvars[1].aval.dtype)]


def _largest(graph: Graph, x: Value, count: int, axis: int, largest: int) -> list[Value]:
    return [*graph.outputs(2, "TopK", x, np.array([count], np.int64), axis=axis, largest=largest)]


def _cut(graph: Graph, x: Value, bounds: Sequence[tuple[int, int, int, int]]) -> Value:
    """The slice from (start, end, axis, step) of each axis that is not taken whole."""
    return graph.node("Slice", x, *(np.array(column, np.int64) for column in zip(*bounds, strict=True))) if bounds else x


def _takes_all(numbers: np.ndarray, size: int) -> bool:
    """Whether the last axis of the numbers of entries runs through whole rows of `size` entries."""
    return bool(
        numbers.ndim
        and numbers.shape[-1] == size
        and numbers.size
        and (numbers[..., :1] % size == 0).all()
        and (numbers == numbers[..., :1] + np.arange(size)).all()
    )
