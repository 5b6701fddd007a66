"""Frozen parameters: no gradient, no optimizer state, no update; BatchNorm freezes with them, as with Keras' `trainable`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import optax

from cifar_flax.errors import ConfigError
from cifar_flax.optim.groups import matches, path_name

SWITCH = "use_running_average"  # flax.linen.BatchNorm's name for it, attribute or argument


def leave_out_frozen(optimizer: optax.GradientTransformation, freeze: tuple[str, ...]) -> optax.GradientTransformation:
    """Applies `optimizer` to the parameters that no pattern of `freeze` matches; the updates of the others are 0.

    `optax.selective_transform` does the same, but its mask would need the parameters before `init` is called.
    """

    def label(path: Any, _: Any) -> str:
        return "freeze" if matches(freeze, path_name(path)) else "train"

    return optax.partition(
        {"train": optimizer, "freeze": optax.set_to_zero()},
        lambda params: jax.tree_util.tree_map_with_path(label, params),
    )


def apply_frozen(model: nn.Module, freeze: tuple[str, ...]) -> Callable[..., Any]:
    """`model.apply` for training with frozen parameters.

    Nothing is differentiated with respect to them, so that layers below the lowest trained one cost no backward pass.

    A frozen BatchNorm normalises with its running statistics and does not update them. This holds for any module that owns
    variables of the collection "batch_stats" and has `use_running_average` as an attribute or as an argument of its call, such
    as flax.linen.BatchNorm. It is frozen if all its parameters are; without parameters, if a pattern matches a `scale` in it.

    Args:
      model: called as `apply(variables, images, train=True, ...)`.
      freeze: patterns of parameter paths; with none, the result is `model.apply`.

    Raises:
      ConfigError: by the returned function, where a module with statistics is frozen that has no `use_running_average`.
    """
    if not freeze:
        return model.apply

    def stop(path: Any, p: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(p) if matches(freeze, path_name(path)) else p

    def freeze_statistics(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if context.method_name == "__call__" and _has_statistics(module) and _is_frozen(module, freeze):
            return _with_running_average(call, module, args, kwargs)
        return call(*args, **kwargs)

    def apply(variables: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        params = jax.tree_util.tree_map_with_path(stop, variables["params"])
        with nn.intercept_methods(freeze_statistics):
            return model.apply({**variables, "params": params}, *args, **kwargs)

    return apply


def _has_statistics(module: nn.Module) -> bool:
    """Whether the module itself, and not only one inside of it, owns variables of "batch_stats"."""
    return any(not isinstance(value, Mapping) for value in module.variables.get("batch_stats", {}).values())


def _is_frozen(module: nn.Module, freeze: tuple[str, ...]) -> bool:
    leaves = jax.tree_util.tree_leaves_with_path(module.variables.get("params", {}))
    names = [path_name(path) for path, _ in leaves] or ["scale"]
    return all(matches(freeze, "/".join((*module.path, name))) for name in names)


def _with_running_average(call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
    attribute = getattr(module, SWITCH, None)
    signature = inspect.signature(type(module).__call__)
    if SWITCH in signature.parameters:
        arguments = signature.bind(module, *args, **kwargs)
        if attribute is None:  # then Flax takes the argument; it refuses both
            arguments.arguments[SWITCH] = True
            return call(*arguments.args[1:], **arguments.kwargs)
    if attribute is None:
        raise ConfigError(
            f"config.optim.freeze: {'/'.join(module.path)} has statistics that cannot be frozen, since {type(module).__name__} "
            f"has no {SWITCH}, which flax.linen.BatchNorm has; leave it out of the patterns"
        )
    if attribute:
        return call(*args, **kwargs)
    return module.clone(parent=module.scope, **{SWITCH: True})(*args, **kwargs)
