"""Parameters of another run, or of a pretrained network, as a starting point."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from cifar_flax.config import CheckpointConfig, Config, Normalization
from cifar_flax.config.serialize import read_config
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.models import Variables
from cifar_flax.pretrained import PREFIX, load_pretrained
from cifar_flax.training.checkpoint import Checkpoints
from cifar_flax.training.state import TrainState, abstract_state

PARAMS = "params"


def init_from_run(state: TrainState, source: str, mesh: Mesh, normalization: Normalization) -> tuple[TrainState, str]:
    """Replaces parameters and batch statistics by those of another network, where path and shape agree.

    They are the ones that the other network is evaluated with: averaged, where its run kept an average. The average that
    `state` keeps begins with them too.

    Pixels must be normalised the same way. Where that is standardising, each network does it by its own training images: frozen
    layers are fed the mean and the deviation that they were trained on, and not the same numbers for the same colour.

    Args:
      state: before the first update.
      source: the directory of the other run, of which the best checkpoint is taken, or `pretrained:NAME`.
      mesh: the devices.
      normalization: of the pixels that `state` will be trained on.

    Returns:
      The new state, and a line that says how much was taken over.

    Raises:
      UserError: there is no such run or network, the run has no intact checkpoint, none of its parameters fits, or it was
        trained on pixels of another normalisation.
    """
    donor = _pretrained(source) if source.startswith(PREFIX) else _best(Path(source), mesh)
    theirs = flatten_dict(dict(donor.variables))
    ours: dict[tuple[str, ...], Any] = flatten_dict({PARAMS: state.params, "batch_stats": state.batch_stats})
    fitting = {path: theirs[path] for path, x in ours.items() if path in theirs and theirs[path].shape == x.shape}
    sizes = {path: x.size for path, x in ours.items() if path[0] == PARAMS}
    taken = {path: size for path, size in sizes.items() if path in fitting}
    if not taken:
        raise ConfigError(
            f"config.train.init_from: no parameter of {source} has the name and shape of one of this network's; "
            f"expected a similar network (there: {_names(theirs)}; here: {_names(ours)})"
        )
    there = donor.config.data.normalization
    if normalization is not there:
        raise ConfigError(
            f"config.data.normalization: {source} was trained on {there} pixels, which these parameters expect; "
            f"use --config.data.normalization={there}"
        )
    merged = unflatten_dict({**ours, **fitting})
    variables: Variables = {PARAMS: merged[PARAMS], "batch_stats": merged.get("batch_stats", {})}
    # A copy: the step donates its input, and one buffer cannot be given away twice.
    ema = None if state.ema is None else jax.tree.map(jnp.copy, variables)
    line = (
        f"took over {len(taken)} of {len(sizes)} parameter tensors, {sum(taken.values()):,} of {sum(sizes.values()):,} "
        f"parameters, from {donor.origin}"
    )
    return dataclasses.replace(state, **variables, ema=ema), line


class _Donor(NamedTuple):
    """The other network: what it was trained with, what it is evaluated with, and what to call it."""

    config: Config
    variables: Variables
    origin: str


def _pretrained(source: str) -> _Donor:
    network = load_pretrained(source.removeprefix(PREFIX))
    return _Donor(network.config, network.variables(), source)


def _best(workdir: Path, mesh: Mesh) -> _Donor:
    """The best checkpoint of a run."""
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such run directory; expected one, or {PREFIX}NAME, in config.train.init_from")
    config, preprocessing = read_config(workdir / "config.json"), Preprocessing.read(workdir / "dataset.json")
    checkpoints = Checkpoints(workdir, CheckpointConfig(), read_only=True)
    step = checkpoints.find("best")
    state = checkpoints.restore(step, abstract_state(config, preprocessing, mesh)).state
    return _Donor(config, state.eval_variables, f"{workdir}, checkpoint {step}")


def _names(variables: dict[tuple[str, ...], Any]) -> str:
    """The first few parameters with their shapes."""
    found = [f"{'/'.join(path[1:])} {list(x.shape)}" for path, x in variables.items() if path[0] == PARAMS]
    return ", ".join(found[:4] + ["..."] * (len(found) > 4))
