"""Weights & Biases: online where somebody is logged in, and a folder of the run directory with WANDB_MODE=offline."""

import os
from typing import Any

import numpy as np

from cifar_flax.config.serialize import to_dict
from cifar_flax.errors import UserError
from cifar_flax.training.writers.session import FIELD, Session

PROJECT = "cifar_flax"  # unless WANDB_PROJECT names another
FINISH_SECONDS = 20.0  # for uploads at the end; `wandb sync` sends what is left on disk


class WandB:
    """A run whose steps are the numbers of updates; its group is the folder of the run directory.

    A history cannot be changed, and its steps rise. So a resumed process goes on with the run of the same id, and what ends a
    run, pictures of its best checkpoint, comes after its last step.

    Attributes:
      id: of the run.
    """

    buffered = True  # its process writes its file in blocks of 32 KB; online it leaves out the steps that the server has

    def __init__(self, session: Session) -> None:
        """Raises UserError where nobody is logged in: a prompt would wait for an answer that a job on a cluster cannot give."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported: its crashes are not sent
        import wandb  # takes a second or two

        mode = wandb.setup().settings.mode
        if mode == "disabled":
            raise UserError(f"{FIELD}: WANDB_MODE=disabled writes nothing; leave wandb out, or set WANDB_MODE=offline")
        if mode != "offline" and not wandb.login(prompt=False):
            raise UserError(f"{FIELD}: nobody is logged in to wandb; type wandb login, or set WANDB_MODE=offline")
        self._image = wandb.Image
        self._run = wandb.init(
            id=session.id or None,
            resume="allow",
            reinit="create_new",  # seeds of one program have a run each, at the same time
            dir=session.workdir,
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=session.group,
            name=f"{session.group}/{session.name}",
            config=to_dict(session.config),
            settings=wandb.Settings(
                silent=True,  # or it prints ten lines, wider than the terminal
                console="off",  # what is printed stays here, ...
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,  # ... as do the user's name and the command line, ...
                host="",  # ... and the host's
                x_disable_stats=True,
                x_save_requirements=False,
                symlink=False,
                finish_timeout=FINISH_SECONDS,
            ),
        )
        self.id = self._run.id
        self._step = session.step + 1 if session.finished else 0
        if mode != "offline" and not session.finished:
            print(f"wandb: {self._run.url}", flush=True)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each of the named curves."""
        self._log(step, values)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, C]."""
        self._log(step, {name: self._image(picture, caption=f"step {step}")})

    def hyperparameters(self, step: int, values: dict[str, Any], scores: dict[str, float]) -> None:
        """Adds the scores to the summary; the config is there from the beginning."""
        self._run.summary.update(scores)

    def close(self) -> None:
        """Ends the process' part of the run."""
        self._run.finish()

    def _log(self, step: int, values: dict[str, Any]) -> None:
        self._step = max(step, self._step)
        self._run.log(values, step=self._step)
