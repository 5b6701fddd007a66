"""The items of a checkpoint: a state in the parts that are read apart, of arrays that Orbax can write."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cifar_flax.training.state import TrainState

MODEL = ("params", "batch_stats", "ema")  # fields of the state that make up the item "model"; the others are "training"


def items_of(state: TrainState) -> dict[str, dict[str, Any]]:
    """Parts a state, of arrays or of their shapes, into the items "model", all that evaluation reads, and "training".

    PRNG keys, which an optimizer may keep, become their data, uint32: no checksum can be taken of a key.
    """
    fields = {name: jax.tree.map(_without_keys, getattr(state, name)) for name in state.__dataclass_fields__}
    return {
        "model": {name: fields[name] for name in MODEL},
        "training": {name: value for name, value in fields.items() if name not in MODEL},
    }


def state_of(items: Mapping[str, Mapping[str, Any]], like: TrainState) -> TrainState:
    """The reverse of `items_of`, for a state with the shapes and dtypes of `like`.

    Raises:
      TypeError: the items have other fields.
    """
    state = TrainState(**{name: value for item in items.values() for name, value in item.items()})
    return jax.tree.map(_with_dtype_of, like, state)


def _without_keys(x: Any) -> Any:
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return x
    if isinstance(x, jax.Array):
        return jax.random.key_data(x)
    data = jax.eval_shape(jax.random.key_data, x)
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=x.sharding)


def _with_dtype_of(like: Any, x: jax.Array) -> jax.Array:
    """The array; the key that it is the data of, where `like` is a key."""
    if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return x
    impl: list[Any] = []
    jax.eval_shape(lambda key: impl.append(jax.random.key_impl(key)), like)  # which takes no shapes
    return jax.random.wrap_key_data(x, impl=impl[0])
