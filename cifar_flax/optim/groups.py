"""Settings by parameter path: shell patterns over names such as `block0_conv0/kernel`."""

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax

from cifar_flax.config import GroupConfig, OptimConfig
from cifar_flax.config.types import Optimizer
from cifar_flax.errors import ConfigError


def path_name(key_path: Any) -> str:
    """The name of a leaf of the parameters' tree: its keys with slashes between them."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def matches(patterns: Iterable[str], path: str) -> bool:
    """Whether one of the shell patterns covers the whole of `path`; `*` runs over slashes too."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def scale_groups(config: OptimConfig) -> optax.GradientTransformation:
    """Multiplies each update by its group's learning rate."""

    def scale(path: Any, update: jax.Array) -> jax.Array:
        return update * _group(config, path_name(path)).learning_rate

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))


def decay_kernels(config: OptimConfig) -> optax.GradientTransformation:
    """Adds weight decay, the config's or the group's, times the parameter: matrices and convolution kernels only."""

    def decay(path: Any, update: jax.Array, p: jax.Array) -> jax.Array:
        own = _group(config, path_name(path)).weight_decay
        rate = config.weight_decay if own is None else own
        return update + rate * p if rate and p.ndim > 1 else update

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(decay, updates, params))


def check_patterns(config: OptimConfig, params: Any) -> None:
    """Checks the patterns of `groups` and `freeze` against the network.

    Args:
      config: holds them.
      params: tree of arrays or of their shapes.

    Raises:
      UserError: a pattern has no effect, or one that the optimizer does not allow, or all parameters are frozen.
    """
    ranks = {path_name(path): len(p.shape) for path, p in jax.tree_util.tree_leaves_with_path(params)}
    fields = [(f"freeze[{i}]", pattern) for i, pattern in enumerate(config.freeze)]
    for field, pattern in [(f"groups[{i}].pattern", group.pattern) for i, group in enumerate(config.groups)] + fields:
        if not any(fnmatchcase(path, pattern) for path in ranks):
            near = ", ".join(difflib.get_close_matches(pattern, ranks, n=3, cutoff=0))
            raise ConfigError(
                f"config.optim.{field}: {pattern!r} matches no parameter; expected a shell pattern of names such as {near}"
            )
    for i, group in enumerate(config.groups):
        if group.weight_decay and not any(rank > 1 and fnmatchcase(path, group.pattern) for path, rank in ranks.items()):
            raise ConfigError(
                f"config.optim.groups[{i}].weight_decay: {group.pattern!r} matches no kernel, and only they decay; leave it out"
            )
    if config.name is Optimizer.MUON_SGD:
        for path, rank in ranks.items():
            if rank == 4 and _group(config, path).learning_rate != 1:  # would scale what brings the kernel to its norm, too
                raise ConfigError(
                    f"config.optim.groups: {path} has a learning rate of its own, and muon_sgd one for all convolutions: "
                    "set config.optim.muon.learning_rate, and groups for other parameters"
                )
    if config.freeze and all(matches(config.freeze, path) for path in ranks):
        raise ConfigError(f"config.optim.freeze: {config.freeze!r} leaves nothing to train; name fewer parameters")


def _group(config: OptimConfig, path: str) -> GroupConfig:
    return next((group for group in config.groups if fnmatchcase(path, group.pattern)), GroupConfig())
