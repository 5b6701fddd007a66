"""MLflow: the server that MLFLOW_TRACKING_URI names, or a SQLite database in the run directory."""

import os
import time
from logging import WARNING, getLogger
from typing import Any
from urllib.parse import quote

import numpy as np

from cifar_flax.config.serialize import flatten_config, to_dict
from cifar_flax.files.folder import make_folder
from cifar_flax.training.writers.session import Session

MOST_PARAMETERS = 100  # in a request, as the server has it
# Read when it is imported. Of its own 7 attempts of 120 s each, a training that waits to begin would wait for minutes.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class MLflow:
    """A run of the experiment that is called as the folder of the run directory, or as MLFLOW_EXPERIMENT_NAME says.

    Its files, `mlruns`, are in maintenance mode and refused by MLflow 3; so what is kept here is a database.

    Attributes:
      id: of the run.
    """

    def __init__(self, session: Session) -> None:
        """Begins the run, with all fields of the config as its parameters, or goes on with it."""
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # takes seconds
        from mlflow.entities import Metric, Param

        for name in ("mlflow", "alembic"):  # which report each table that they make
            getLogger(name).setLevel(WARNING)
        self._metric = Metric
        local = not os.environ.get("MLFLOW_TRACKING_URI")
        folder = session.workdir.absolute() / "mlflow"
        if local:
            make_folder(folder)
        database = quote(str(folder / "mlflow.db"), safe="")  # slashes too: MLflow makes the folders of the path as quoted
        self._client = MlflowClient(f"sqlite:///{database}" if local else None)
        if session.id:
            self._client.update_run(session.id, status="RUNNING")
        self.id = session.id or self._begin(session, (folder / "artifacts").as_uri() if local else None)
        there = self._client.get_run(self.id).data.params  # which cannot be changed
        fields = {_allowed(path): str(value) for path, value in flatten_config(to_dict(session.config))}
        new = [Param(name, value) for name, value in fields.items() if name not in there]
        for first in range(0, len(new), MOST_PARAMETERS):
            self._client.log_batch(self.id, params=new[first : first + MOST_PARAMETERS])

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each of the named curves, in one request."""
        now = int(time.time() * 1000)
        self._client.log_batch(self.id, metrics=[self._metric(name, value, now, step) for name, value in values.items()])

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, C], as an artifact, in place of the one that has its name and step."""
        self._client.log_image(self.id, picture, artifact_file=f"pictures/{name}/{step:08d}.png")

    def hyperparameters(self, step: int, values: dict[str, Any], scores: dict[str, float]) -> None:
        """Adds the scores; the fields of the config are there from the beginning."""
        if scores:
            self.scalars(step, scores)

    def close(self) -> None:
        """Ends the run, which a later process may go on with."""
        self._client.set_terminated(self.id)

    def _begin(self, session: Session, artifacts: str | None) -> str:
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", session.group)
        find = self._client.get_experiment_by_name
        try:
            place = there.experiment_id if (there := find(name)) else self._client.create_experiment(name, artifacts)
        except MlflowException:
            if (there := find(name)) is None:
                raise
            place = there.experiment_id  # another process has made it just now
        return self._client.create_run(place, run_name=session.name).info.run_id


def _allowed(path: str) -> str:
    """The path of a field in the characters that MLflow allows: `config.model.blocks[0].pool` is `model.blocks.0.pool`."""
    return path.removeprefix("config.").replace("[", ".").replace("]", "")
