"""Parameters of another run, or of a pretrained network, as a starting point."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from cifar_flax.config import CheckpointConfig
from cifar_flax.config_file import read_config
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import UserError
from cifar_flax.models import Variables
from cifar_flax.pretrained import PREFIX, load_pretrained
from cifar_flax.training.checkpoint import Checkpoints
from cifar_flax.training.state import TrainState, abstract_state

PARAMS = "params"


def take_over(state: TrainState, source: str, mesh: Mesh) -> tuple[TrainState, str]:
    """Replaces parameters and batch statistics by those of another network, where path and shape agree.

    They are the ones that the other network is evaluated with: averaged, where its run kept an average. The average that
    `state` keeps begins with them too.

    Args:
      state: before the first update.
      source: the directory of the other run, of which the best checkpoint is taken, or `pretrained:NAME`.
      mesh: the devices.

    Returns:
      The new state, and a line that says how much was taken over.

    Raises:
      UserError: there is no such run or network, the run has no intact checkpoint, or none of its parameters fits.
    """
    if source.startswith(PREFIX):
        theirs, origin = flatten_dict(dict(load_pretrained(source.removeprefix(PREFIX)).variables())), source
    else:
        theirs, step = _best(Path(source), mesh)
        origin = f"{source}, checkpoint {step}"
    ours: dict[tuple[str, ...], Any] = flatten_dict({PARAMS: state.params, "batch_stats": state.batch_stats})
    fitting = {path: theirs[path] for path, x in ours.items() if path in theirs and theirs[path].shape == x.shape}
    sizes = {path: x.size for path, x in ours.items() if path[0] == PARAMS}
    taken = {path: size for path, size in sizes.items() if path in fitting}
    if not taken:
        raise UserError(
            f"config.train.init_from: no parameter of {source} has the name and shape of one of this network's; "
            f"expected a similar network (there: {_names(theirs)}; here: {_names(ours)})"
        )
    merged = unflatten_dict({**ours, **fitting})
    variables: Variables = {PARAMS: merged[PARAMS], "batch_stats": merged.get("batch_stats", {})}
    # A copy: the step donates its input, and one buffer cannot be given away twice.
    ema = None if state.ema is None else jax.tree.map(jnp.copy, variables)
    line = (
        f"took over {len(taken)} of {len(sizes)} parameter tensors, {sum(taken.values()):,} of {sum(sizes.values()):,} "
        f"parameters, from {origin}"
    )
    return dataclasses.replace(state, **variables, ema=ema), line


def _best(workdir: Path, mesh: Mesh) -> tuple[dict[tuple[str, ...], Any], int]:
    """The variables of a run's best checkpoint by path, and its step."""
    if not workdir.is_dir():
        raise UserError(f"config.train.init_from: {workdir}: no such run directory")
    config, preprocessing = read_config(workdir / "config.json"), Preprocessing.read(workdir / "dataset.json")
    checkpoints = Checkpoints(workdir, CheckpointConfig(), read_only=True)
    step = checkpoints.find("best")
    state = checkpoints.restore(step, abstract_state(config, preprocessing, mesh)).state
    return flatten_dict(state.eval_variables), step


def _names(variables: dict[tuple[str, ...], Any]) -> str:
    """The first few parameters with their shapes."""
    found = [f"{'/'.join(path[1:])} {list(x.shape)}" for path, x in variables.items() if path[0] == PARAMS]
    return ", ".join(found[:4] + ["..."] * (len(found) > 4))
