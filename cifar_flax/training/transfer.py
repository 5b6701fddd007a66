"""Parameters of another run, or of a pretrained network, as a starting point."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from cifar_flax.config import Config
from cifar_flax.config.serialize import read_config
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.models import Variables
from cifar_flax.network import Network
from cifar_flax.optim.groups import matches
from cifar_flax.pretrained import PREFIX, load_weights
from cifar_flax.runtime import compilation
from cifar_flax.runtime.devices import put_global, replicated
from cifar_flax.runtime.multihost import check_same_on_all_hosts, raise_on_all_hosts
from cifar_flax.training.checkpoints.info import digest
from cifar_flax.training.checkpoints.restore import restore_networks
from cifar_flax.training.seed_folders import best_seed
from cifar_flax.training.state import TrainState, initial_opt_state

PARAMS = "params"


def init_from_run(
    states: Sequence[TrainState], config: Config, optimizer: optax.GradientTransformation, mesh: Mesh
) -> tuple[list[TrainState], str]:
    """Replaces parameters and batch statistics by those of another network, where path and shape agree.

    A run gives the weights that it is evaluated with: the averaged ones where it kept an average. The average of each state
    starts from them too, and so does the optimizer, whose state may hold parameters.

    Both networks must normalise pixels the same way. Where that is standardising, each uses the mean and the deviation of its
    own training images: frozen layers then see inputs distributed as those that they were trained on.

    Args:
      states: of the same network, before the first update.
      config: of their training. `config.train.init_from` is the directory of the other run, of which the best checkpoint is
        taken; or what `pretrained.load_weights` takes: `pretrained:NAME`, FILE.safetensors, `hf:USER/NAME`.
      optimizer: of their training.
      mesh: the devices.

    Returns:
      The new states, and a line that says how many parameters were taken over.

    Raises:
      UserError: there is no such run or network, or another on each host, the run has no intact checkpoint, none of its
        parameters fits, it was trained on pixels of another normalisation, or it lacks parameters that are to be frozen.
    """
    source = config.train.init_from
    network, origin = raise_on_all_hosts(lambda: load_source(source, "config.train.init_from"))
    if jax.process_count() > 1:
        check_same_on_all_hosts({"the weights of config.train.init_from": digest(network.variables)})
    source_variables = flatten_dict(dict(network.variables))
    target = flatten_dict(dict(states[0].raw_variables))
    matching = {
        path: jnp.asarray(x, target[path].dtype)
        for path, x in source_variables.items()
        if path in target and x.shape == target[path].shape
    }
    sizes = {path: x.size for path, x in target.items() if path[0] == PARAMS}
    taken = {path: size for path, size in sizes.items() if path in matching}
    if not taken:
        raise ConfigError(
            f"config.train.init_from: no parameter of {source} has the name and shape of one of this network's; "
            f"expected a similar network (there: {_names(source_variables)}; here: {_names(target)})"
        )
    expected = network.config.data.normalization
    if config.data.normalization is not expected:
        raise ConfigError(
            f"config.data.normalization: {source} was trained on {expected} pixels, which these parameters expect; "
            f"use --config.data.normalization={expected}"
        )
    _check_frozen(config, target, taken)
    line = (
        f"took over {len(taken)} of {len(sizes)} parameter tensors, {sum(taken.values()):,} of {sum(sizes.values()):,} "
        f"parameters, from {origin}"
    )
    init = compilation.jit(partial(initial_opt_state, optimizer), out_shardings=replicated(mesh))
    return [_with(state, matching, init, mesh) for state in states], line


def _check_frozen(config: Config, target: Mapping[tuple[str, ...], Any], taken: Collection[tuple[str, ...]]) -> None:
    """Refuses to freeze what was drawn at random: parameters that were neither taken over nor computed from the images."""
    for path, x in target.items():
        name = "/".join(path[1:])
        drawn = path[0] == PARAMS and path not in taken and not matches(config.model.initialized_from_data, name)
        if drawn and matches(config.optim.freeze, name):
            raise ConfigError(
                f"config.optim.freeze: {name} would stay random: {config.train.init_from} has no parameter of this name and "
                f"shape, {list(x.shape)}; freeze only what it has, or build this network as that one is"
            )


def _with(
    state: TrainState, matching: Mapping[tuple[str, ...], Any], init: Callable[[Any], optax.OptState], mesh: Mesh
) -> TrainState:
    merged = unflatten_dict({**flatten_dict(dict(state.raw_variables)), **matching})
    variables: Variables = put_global({PARAMS: merged[PARAMS], "batch_stats": merged.get("batch_stats", {})}, replicated(mesh))
    # A copy: the step donates its input, and one buffer cannot be given away twice.
    ema = None if state.ema is None else jax.tree.map(jnp.copy, variables)
    return dataclasses.replace(state, **variables, ema=ema, opt_state=init(variables[PARAMS]))


def load_source(source: str, field: str) -> tuple[Network, str]:
    """The network that a field of the config names, and its name for people; the best checkpoint of a run, or of `best_seed`.

    Raises:
      UserError: there is no such run or network, or it is damaged.
    """
    try:
        if (bare := load_weights(source)) is not None:
            return bare, source
        workdir = Path(source)
        if not workdir.is_dir():
            raise UserError(f"{workdir}: no such run directory; expected one, or {PREFIX}NAME")
        workdir = best_seed(workdir)
        config, preprocessing = read_config(workdir / "config.json"), Preprocessing.read(workdir / "dataset.json")
        network, _ = restore_networks(workdir, config, preprocessing)
    except UserError as e:
        raise UserError(f"{field}: {e}") from None
    return network, f"{workdir}, checkpoint {network.step}"


def _names(variables: dict[tuple[str, ...], Any]) -> str:
    """The first few parameters with their shapes."""
    names = [f"{'/'.join(path[1:])} {list(x.shape)}" for path, x in variables.items() if path[0] == PARAMS]
    return ", ".join(names[:4] + ["..."] * (len(names) > 4))
