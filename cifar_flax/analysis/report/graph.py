"""A network as a graph from the image to the logits: its layers, the functions between them, and what each of them reads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Jaxpr, JaxprEqn, Var

from cifar_flax.analysis.report.layers import Path, is_layer, subtree
from cifar_flax.models import Variables, count_parameters

FUNCTIONS = {"logistic": "sigmoid", "tanh": "tanh"}
POOLS = {"reduce_max": "maximum", "reduce_sum": "mean"}  # over rows and columns, or over tokens
JOINS = {"add": "sum", "mul": "product", "concatenate": "concatenation", "dot_general": "matrix product"}

Sources = tuple[int, ...]  # nodes that a value depends on, as indices


@dataclass(frozen=True)
class Node:
    """The image, the call of a layer, or a function that is no layer, such as an activation, pooling or a sum of branches.

    Attributes:
      name: name of the function, or path of the layer as one string.
      kind: class of a layer; empty for all else.
      shape: shape of its output, without the batch.
      parameters: number of parameters.
      sources: the nodes it reads, as indices.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    sources: Sources


def network_graph(model: nn.Module, variables: Variables, image_shape: tuple[int, int, int]) -> list[Node]:
    """Traces a network and returns its nodes in the order of their calls, the image first.

    A module with submodules is represented by those. Operations that only scale a value or change its type are left out, and
    so is dropout of rate 0.

    Args:
      model: from `models.create_model`.
      variables: {"params", "batch_stats"}.
      image_shape: (H, W, C).
    """
    calls: list[tuple[Path, str]] = []

    def mark(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        """Names the arrays that enter and leave a layer, so that they can be told in the jaxpr."""
        if not is_layer(context):
            return call(*args, **kwargs)
        place = len(calls)
        calls.append((tuple(context.module.path), type(context.module).__name__))
        args, kwargs = _name_arrays((args, kwargs), f"in {place}")
        return _name_arrays(call(*args, **kwargs), f"out {place}")

    def forward(images: jax.Array) -> Any:
        with nn.intercept_methods(mark):
            return model.apply(variables, images, train=False)

    jaxpr = jax.make_jaxpr(forward)(jnp.zeros((1, *image_shape))).jaxpr
    parents = {path[:depth] for path, _ in calls for depth in range(len(path))}
    layers = {
        str(place): Node("/".join(path), kind, (), count_parameters(subtree(variables["params"], path)), ())
        for place, (path, kind) in enumerate(calls)
        if path not in parents
    }
    walk = _Walk(layers, image_shape)
    walk.follow(jaxpr, {jaxpr.invars[0]: (0,)})
    return walk.nodes


class _Walk:
    """Follows values through the operations of a jaxpr; `layers` are those whose arrays are named, by their number."""

    def __init__(self, layers: dict[str, Node], image_shape: tuple[int, ...]) -> None:
        self.nodes = [Node("image", "", image_shape, 0, ())]
        self._layers = layers
        self._places: dict[str, Sources] = {}  # number of a layer -> its node
        self._open: set[str] = set()  # numbers of the layers that are being called

    def follow(self, jaxpr: Jaxpr, sources: dict[Any, Sources]) -> None:
        """Appends the nodes of a jaxpr; adds the sources of all its variables to those of its inputs."""
        for operation in jaxpr.eqns:
            read = _union(sources.get(v, ()) for v in operation.invars if isinstance(v, Var))
            if (inner := _inlined(operation)) is not None:
                arguments = zip(inner.invars, operation.invars, strict=True)
                within = {v: sources.get(outer, ()) for v, outer in arguments if isinstance(outer, Var)}
                self.follow(inner, within)
                results = zip(operation.outvars, inner.outvars, strict=True)
                sources.update({outer: within.get(v, ()) for outer, v in results if isinstance(v, Var)})
            else:
                sources.update(dict.fromkeys(operation.outvars, self._step(operation, read)))

    def _step(self, operation: JaxprEqn, read: Sources) -> Sources:
        """Appends the node that an operation makes, if any; returns the sources of its results."""
        end, _, number = operation.params["name"].partition(" ") if operation.primitive.name == "name" else ("", "", "")
        layer = self._layers.get(number)
        if layer is None:
            name = _function(operation, len(read)) if read and not self._open and not end else ""
            return self._append(operation, name, "", 0, read) if name else read
        if end == "in":
            self._open.add(number)
            return read
        self._open.discard(number)
        if number not in self._places:  # else it is another of its results
            self._places[number] = self._append(operation, layer.name, layer.kind, layer.parameters, read)
        return self._places[number]

    def _append(self, operation: JaxprEqn, name: str, kind: str, parameters: int, read: Sources) -> Sources:
        shape = getattr(operation.outvars[0].aval, "shape", (1,))[1:]
        self.nodes.append(Node(name, kind, shape, parameters, read))
        return (len(self.nodes) - 1,)


def _union(sources: Iterable[Sources]) -> Sources:
    return tuple(sorted({node for part in sources for node in part}))


def _name_arrays(tree: Any, name: str) -> Any:
    return jax.tree.map(lambda leaf: checkpoint_name(leaf, name) if isinstance(leaf, jax.Array) else leaf, tree)


def _inlined(operation: JaxprEqn) -> Jaxpr | None:
    """The body of an operation in which layers are called, such as that of `nn.remat` or `nn.scan`; None for all others."""
    for value in operation.params.values():
        jaxpr = getattr(value, "jaxpr", value)
        if isinstance(jaxpr, Jaxpr) and _calls_layers(jaxpr):
            same = len(jaxpr.invars) == len(operation.invars) and len(jaxpr.outvars) == len(operation.outvars)
            return jaxpr if same else None
    return None


def _calls_layers(jaxpr: Jaxpr) -> bool:
    return any(operation.primitive.name == "name" or _inlined(operation) is not None for operation in jaxpr.eqns)


def _function(operation: JaxprEqn, sources: int) -> str:
    """The name of an operation that reads so many nodes, for readers; "" for scaling, conversions and the like."""
    name, params = operation.primitive.name, operation.params
    if sources > 1:
        return JOINS.get(name, name.replace("_", " "))
    if name in ("custom_jvp_call", "custom_vjp_call"):
        function = params["call_jaxpr"].jaxpr
        name = function.debug_info.func_name if function.eqns else ""  # pooling with a window of 1 is none
    elif name == "jit":
        name = params["name"]
    elif name in POOLS:
        return {(1, 2): f"{POOLS[name]} of each map", (1,): POOLS[name]}.get(params["axes"], "")  # others are of a softmax
    elif name == "reshape":
        return "flatten" if len(params["new_sizes"]) == 2 else "reshape"
    else:
        return FUNCTIONS.get(name, "")
    return str(name).replace("_", " ").strip()
