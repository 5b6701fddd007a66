"""The newest checkpoint that is intact, from which training goes on."""

from collections.abc import Sequence

from absl import logging

from cifar_flax.errors import UserError
from cifar_flax.training.checkpoints.manager import Checkpoints, Restored
from cifar_flax.training.state import TrainState


def restore_latest(runs: Sequence[Checkpoints], like: TrainState) -> list[Restored]:
    """Reads the newest checkpoint that all runs have intact, and quarantines damaged newer ones with a warning.

    Args:
      runs: one, or several that are trained together.
      like: the state of each, with shapes, dtypes and shardings.

    Returns:
      What each has at that step; [] where there is no step that all have.

    Raises:
      UserError: there are such steps, and none is intact; or there are none, and some have checkpoints. Their checkpoints stay
        where they are.
    """
    steps = sorted(set.intersection(*(set(run.steps()) for run in runs)), reverse=True)
    damaged: list[tuple[Checkpoints, int]] = []
    for step in steps:
        restored: list[Restored] = []
        for run in runs:
            try:
                restored.append(run.restore(step, like))
            except UserError as e:
                logging.warning("%s", e)
                damaged.append((run, step))
                break
        else:
            if damaged:
                logging.warning("falling back to checkpoint %d", step)
            for run, later in damaged:
                run.quarantine(later)
            for run, (_, progress) in zip(runs, restored, strict=True):
                run.resume_after(step, progress)
            return restored
    if not steps and any(run.steps() for run in runs):  # damaged ones were moved aside meanwhile
        raise UserError(
            "the seeds have no intact checkpoint of one step any more; --config.train.vmap_seeds=false trains them on, one "
            "after another"
        )
    if steps:
        where = runs[0].directory if len(runs) == 1 else "any of the seeds"
        raise UserError(f"no checkpoint in {where} is intact; --restart begins again and keeps what is there beside")
    return []
