"""Parameters that stay as they are: no gradient, no state, no update; and BatchNorm with them, as with Keras' `trainable`."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import optax

from cifar_flax.models.batch_norm import BatchNormalization
from cifar_flax.optim.groups import matches, path_name


def leave_out_frozen(optimizer: optax.GradientTransformation, freeze: tuple[str, ...]) -> optax.GradientTransformation:
    """Shows `optimizer` only the parameters that no pattern of `freeze` matches; the updates of the others are 0."""

    def label(path: Any, _: Any) -> str:
        return "frozen" if matches(freeze, path_name(path)) else "trained"

    return optax.partition(
        {"trained": optimizer, "frozen": optax.set_to_zero()},
        lambda params: jax.tree_util.tree_map_with_path(label, params),
    )


def apply_frozen(model: nn.Module, freeze: tuple[str, ...]) -> Callable[..., Any]:
    """`model.apply` for training with frozen parameters.

    Nothing is differentiated by them, so that the layers below the lowest trained one cost no backward pass. A BatchNorm whose
    parameters are all frozen normalises with its running statistics and leaves them as they are.

    Args:
      model: called as `apply(variables, images, train=True, ...)`.
      freeze: patterns of parameter paths; with none, the result is `model.apply`.
    """
    if not freeze:
        return model.apply

    def stop(path: Any, p: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(p) if matches(freeze, path_name(path)) else p

    def keep_statistics(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, BatchNormalization) and not module.use_running_average and _all_frozen(module, freeze):
            return module.clone(parent=module.scope, use_running_average=True)(*args, **kwargs)
        return call(*args, **kwargs)

    def apply(variables: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        stopped = jax.tree_util.tree_map_with_path(stop, variables["params"])
        with nn.intercept_methods(keep_statistics):
            return model.apply({**variables, "params": stopped}, *args, **kwargs)

    return apply


def _all_frozen(module: nn.Module, freeze: tuple[str, ...]) -> bool:
    names = module.variables.get("params") or ("scale",)  # as if it had one
    return all(matches(freeze, "/".join((*module.path, name))) for name in names)
