"""A run directory, opened: what the notebook, the report and the demo read."""

import contextlib
import time
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import flax.linen as nn
import numpy as np

from cifar_flax.config import CheckpointConfig, Config
from cifar_flax.config.serialize import read_config
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.registry import load_dataset
from cifar_flax.data.splits import training_splits
from cifar_flax.errors import UserError
from cifar_flax.evaluation.predict import TTA, PredictStep, make_predict_step, predict
from cifar_flax.evaluation.scores import scores
from cifar_flax.models import Variables, create_model
from cifar_flax.runtime.devices import compute_dtype, data_parallel_mesh, put_dataset
from cifar_flax.training.records import read_records
from cifar_flax.training.state import TrainState, abstract_state

if TYPE_CHECKING:
    import pandas as pd

    from cifar_flax.training.checkpoint import Checkpoints

T = TypeVar("T")
ATTEMPTS = 20  # to read checkpoints that a training replaces
REMOVAL_SECONDS = 0.2  # in which a checkpoint, the files of which go one by one, is gone altogether
SPLITS = ("train", "validation", "test")


class Run:
    """What a training left behind, on whatever devices it was made and wherever it is opened.

    Attributes:
      workdir: the folder.
      config: what was trained.
      preprocessing: image shape, class names and normalisation.
    """

    def __init__(self, workdir: Path, config: Config, preprocessing: Preprocessing) -> None:
        self.workdir, self.config, self.preprocessing = workdir, config, preprocessing
        self._held: tuple[int, Variables] | None = None

    @classmethod
    def open(cls, workdir: str | Path) -> "Run":
        """Opens a run directory; a run that is still training can be opened too.

        Raises:
          UserError: the folder is missing, is not a run, or its config.json or dataset.json is damaged.
        """
        workdir = Path(workdir)
        if not workdir.is_dir():
            raise UserError(f"{workdir}: no such run directory")
        return cls(workdir, read_config(workdir / "config.json"), Preprocessing.read(workdir / "dataset.json"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class, in the order of the logits."""
        return self.preprocessing.class_names

    @cached_property
    def model(self) -> nn.Module:
        """The network; `run.model.apply(run.variables(), images, train=False)` gives logits for normalised images."""
        return create_model(self.config.model, self.preprocessing.num_classes, self._dtype)

    def metrics(self) -> "pd.DataFrame":
        """The records of metrics.jsonl, a row each: `kind` "epoch" has train_* and validation_*, "step" a batch's metrics."""
        import pandas as pd  # a second that only those who ask for the table should wait

        return pd.DataFrame(read_records(self.workdir))

    def variables(self, which: str | int = "best") -> Variables:
        """The weights to evaluate with, {"params", "batch_stats"}: float32 arrays; averaged ones where the run kept an EMA.

        Args:
          which: "best" by validation top-1 (the latest where there was no validation), "latest", or a step.
        Raises:
          UserError: there is no such checkpoint, or it is damaged.
        """
        if self._held is None or self._held[0] != which:
            state = self._state(which)
            self._held = int(state.step), state.eval_variables
        return self._held[1]

    def hold(self, which: str | int = "best") -> int:
        """Reads a checkpoint and returns its step, by which it can be used even after a training that goes on has removed it.

        The last one read is held; raises as `variables`.
        """
        self._held = None
        self.variables(which)
        assert self._held is not None  # nosec B101 # for the type checker
        return self._held[0]

    def params(self, which: str | int = "best") -> Any:
        """The tree of parameters of `variables(which)`."""
        return self.variables(which)["params"]

    def step(self, which: str | int = "best") -> int:
        """The step that "best" or "latest" stands for."""
        return self._read_checkpoints(lambda checkpoints: checkpoints.find(which))

    def dataset(self, split: str) -> Dataset:
        """The images of "train" (without the validation images), "validation" or "test", as the run had them.

        Raises:
          UserError: no such split, or the data are not here.
        """
        if split not in SPLITS:
            raise UserError(f"no split {split!r}; expected one of {', '.join(SPLITS)}")
        if split == "test":
            found: Dataset | None = load_dataset(self.config.data, "test")
        else:
            train, validation = training_splits(self.config.data)
            found = train if split == "train" else validation
        if found is None:
            raise UserError(f"{self.workdir} trained on all images (config.data.validation_fraction=0): no validation split")
        return found

    def predict(self, data: str | Dataset, which: str | int = "best", tta: str = "none") -> np.ndarray:
        """The logits of a checkpoint for a split or any other images of the same shape: float32 [N, C], in their order.

        Args:
          data: the name of a split, or images.
          which: as in `variables`.
          tta: test-time augmentation, "none", "flip" or "flip+shift"; see `training.prediction.views`.
        Raises:
          UserError: no such split, checkpoint or test-time augmentation.
        """
        if tta not in TTA:
            raise UserError(f"no test-time augmentation {tta!r}; expected one of {', '.join(TTA)}")
        dataset = self.dataset(data) if isinstance(data, str) else data
        mesh = data_parallel_mesh()
        images = put_dataset(dataset, mesh).images
        return predict(self._predict_step(tta), self.variables(which), images, self.config.train.eval_batch_size, mesh)

    def evaluate(self, split: str = "test", which: str | int = "best") -> dict[str, Any]:
        """Scores a checkpoint on every image of a split once: n, loss, top1 and whatever else `scores.scores` returns."""
        dataset = self.dataset(split)
        return self.score(self.predict(dataset, which), dataset.labels)

    def score(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """Scores logits, float32 [N, C], against labels, int32 [N], by `scores.scores`."""
        known = self.preprocessing
        return scores(logits, labels, known.class_names, known.coarse_names, known.coarse_of_fine)

    @property
    def _dtype(self) -> Any:
        return compute_dtype(self.config.train.dtype)

    @cached_property
    def _predict_step(self) -> Callable[[str], PredictStep]:
        """From a test-time augmentation to the program, compiled once."""
        return cache(lambda tta: make_predict_step(self.model, self.preprocessing, self._dtype, data_parallel_mesh(), tta))

    def _state(self, which: str | int) -> TrainState:
        like = abstract_state(self.config, self.preprocessing, data_parallel_mesh())

        def restore(checkpoints: "Checkpoints") -> TrainState:
            step = checkpoints.find(which)
            try:
                return checkpoints.restore(step, like).state
            except UserError as e:
                time.sleep(REMOVAL_SECONDS)
                if step in self._read_checkpoints(lambda checkpoints: checkpoints.steps()):
                    raise
                raise FileNotFoundError(step) from e

        return self._read_checkpoints(restore)

    def _read_checkpoints(self, read: Callable[["Checkpoints"], T]) -> T:
        """Opens them anew each time: a run that is still training writes new ones, and removes old ones while we read."""
        from cifar_flax.training.checkpoint import Checkpoints  # Orbax, for which those who read the table need not wait

        for _ in range(ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):
                return read(Checkpoints(self.workdir, CheckpointConfig(), read_only=True))
        raise UserError(f"{self.workdir}: its checkpoints are replaced faster than they can be read; try again")
