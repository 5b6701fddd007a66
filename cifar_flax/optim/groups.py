"""Settings by parameter path: shell patterns over names such as `block0_conv0/kernel`."""

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax

from cifar_flax.config.specs import GroupConfig, OptimizerSpec
from cifar_flax.errors import ConfigError


def path_name(key_path: Any) -> str:
    """Name of a leaf of the parameter tree: its keys, joined by slashes."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def matches(patterns: Iterable[str], path: str) -> bool:
    """Whether any of the shell patterns matches all of `path`; `*` matches slashes, too."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def is_kernel(path: str, shape: Sequence[int]) -> bool:
    """Whether a parameter is a kernel: has two or more axes, and is no `bias`, of which attention's have two.

    An embedding is one, and so is a token that a network adds, such as [1, 1, width].
    """
    return len(shape) > 1 and path.rpartition("/")[2] != "bias"


def group_of(spec: OptimizerSpec, path: str) -> GroupConfig:
    """The first group whose pattern matches; the default settings if none does."""
    return next((group for group in spec.groups if fnmatchcase(path, group.pattern)), GroupConfig())


def scale_groups(spec: OptimizerSpec) -> optax.GradientTransformation:
    """Multiplies each update by its group's learning rate.

    Args:
      spec: its `groups` map patterns of parameter paths to factors of the learning rate; without a group it is 1.

    Returns:
      A transform without state; updates are a float32 tree of the shapes of the parameters.
    """

    def scale(path: Any, update: jax.Array) -> jax.Array:
        return update * group_of(spec, path_name(path)).learning_rate

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))


def decay_kernels(spec: OptimizerSpec, weight_decay: float) -> optax.GradientTransformation:
    """Adds the group's weight decay, or else `weight_decay`, times the parameter to each update of a kernel.

    Kernels are as in `is_kernel`; biases and scales do not decay.
    """

    def decay(path: Any, update: jax.Array, p: jax.Array) -> jax.Array:
        name = path_name(path)
        group = group_of(spec, name)
        rate = weight_decay if group.weight_decay is None else group.weight_decay
        return update + rate * p if rate and is_kernel(name, p.shape) else update

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(decay, updates, params))


def check_patterns(spec: OptimizerSpec, params: Any) -> None:
    """Checks the patterns of `groups` and `freeze`, and the spec's `check_parameters`, against the network.

    Args:
      spec: the optimizer's.
      params: tree of arrays or of their shapes.

    Raises:
      ConfigError: a pattern has no effect, or one that the optimizer does not allow, or all parameters are frozen.
    """
    shapes = {path_name(path): tuple(p.shape) for path, p in jax.tree_util.tree_leaves_with_path(params)}
    patterns = {f"groups[{i}].pattern": group.pattern for i, group in enumerate(spec.groups)}
    patterns |= {f"freeze[{i}]": pattern for i, pattern in enumerate(spec.freeze)}
    for field, pattern in patterns.items():
        if not any(fnmatchcase(path, pattern) for path in shapes):
            near = ", ".join(difflib.get_close_matches(pattern, shapes, n=3, cutoff=0))
            raise ConfigError(
                f"config.optim.{field}: {pattern!r} matches no parameter; expected a shell pattern of names such as {near}"
            )
    for i, group in enumerate(spec.groups):
        of_group = [path for path in shapes if group_of(spec, path) is group]
        if not of_group:
            raise ConfigError(
                f"config.optim.groups[{i}].pattern: all that {group.pattern!r} matches is of an earlier group, which counts; "
                "put this one before it, or leave it out"
            )
        if group.weight_decay and not any(is_kernel(path, shapes[path]) for path in of_group):
            raise ConfigError(
                f"config.optim.groups[{i}].weight_decay: {group.pattern!r} matches no kernel that is not of an earlier group, "
                "and only kernels decay; leave it out"
            )
    if spec.freeze and all(matches(spec.freeze, path) for path in shapes):
        raise ConfigError(f"config.optim.freeze: {spec.freeze!r} leaves nothing to train; name fewer parameters")
    spec.check_parameters(shapes)
