"""Writers of metrics, `config.log.writers`, besides metrics.jsonl, which is the run's own record."""

import contextlib
import importlib.util

from absl import logging

from cifar_flax.config.registry import WRITERS
from cifar_flax.errors import UserError
from cifar_flax.files.installation import install_command
from cifar_flax.training.writers.mlflow import MLflow
from cifar_flax.training.writers.sending import Sender
from cifar_flax.training.writers.session import FIELD, Session, Writer
from cifar_flax.training.writers.wandb import WandB

__all__ = ["WRITERS", "Session", "check_writers", "open_writers"]

TENSORBOARD = "tensorboard"
RECORDS = "jsonl"  # a name for metrics.jsonl, which is written without it too
OURS = (TENSORBOARD, RECORDS)  # which write into the run directory
PACKAGES = ("wandb", "mlflow")  # which are not installed with this one


@WRITERS.register(TENSORBOARD)
def _tensorboard(session: Session) -> Writer:
    from cifar_flax.training.writers import tensorboard

    training = tensorboard.recorded_by(session.step, session.epoch_step)
    keep = tensorboard.recorded_while_training if session.finished else training
    return tensorboard.TensorBoard(session.workdir, keep)


@WRITERS.register(RECORDS)
class _Recorded(Writer):
    """Adds nothing: `training.records` writes metrics.jsonl, whether it is named or not."""

    def __init__(self, session: Session) -> None:
        pass


WRITERS.register("wandb")(WandB)
WRITERS.register("mlflow")(MLflow)


def check_writers(names: tuple[str, ...]) -> None:
    """Looks whether the named writers are there, which only a training needs: a run is opened without its trackers.

    Raises:
      UserError: a package is missing, or a user's own writer cannot be imported.
    """
    for i, name in enumerate(names):
        WRITERS.resolve(name, f"{FIELD}[{i}]")
        if name in PACKAGES and importlib.util.find_spec(name) is None:
            raise UserError(f"{FIELD}: {name} is not installed; type  {install_command(name)}")


def open_writers(session: Session) -> list[Writer]:
    """Opens the writers that the config names.

    TensorBoard's files are the run's own, and written in the calling thread: a full disk ends the run. Whatever else may be far
    away: a thread of its own writes it, and it neither slows nor ends a training that has begun.

    Raises:
      UserError: one cannot start. Where the session is of a finished run, that is a warning.
    """
    with contextlib.ExitStack() as stack:
        writers: list[Writer] = []
        for i, name in enumerate(session.config.log.writers):
            open_writer = WRITERS.resolve(name, f"{FIELD}[{i}]")
            try:
                writer = open_writer(session) if name in OURS else Sender(name, open_writer, session)
            except UserError as e:
                if not session.finished:
                    raise
                logging.warning("%s; it has no summary of the run", e)
                continue
            writers.append(writer)
            stack.callback(writer.close)
        stack.pop_all()
    return writers
