"""A run directory, opened: its records, its checkpoints as networks, and the images that it trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar_flax.config import Config
from cifar_flax.config.serialize import read_config
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.provenance import load_as_trained
from cifar_flax.errors import UserError
from cifar_flax.evaluation.calibration import Calibration
from cifar_flax.evaluation.scores import scores
from cifar_flax.network import Network
from cifar_flax.pretrained import is_weights, load_weights, pretrained_names
from cifar_flax.training.records import read_records
from cifar_flax.training.seed_folders import best_seed

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """A run directory, trained on whatever devices; a run that is still training can be opened too.

    Attributes:
      workdir: the folder.
      config: the config that was trained.
      preprocessing: image shape, class names and normalisation.
    """

    def __init__(self, workdir: Path, config: Config, preprocessing: Preprocessing) -> None:
        self.workdir, self.config, self.preprocessing = workdir, config, preprocessing
        self._cached: tuple[Network, Network] | None = None  # with the averaged weights, and with those of the last update

    def __repr__(self) -> str:
        return f"<Run {self.workdir}: {self.config.model.name} on {self.config.data.name}>"

    @classmethod
    def open(cls, workdir: str | Path) -> "Run":
        """Opens a run directory; of a folder of seeds the best in validation, or the first where nothing was validated.

        Raises:
          UserError: the folder is missing, is not a run, or its config.json or dataset.json is damaged.
        """
        if is_weights(workdir):
            raise UserError(f"{workdir}: weights alone; expected a run directory, which has their records and checkpoints too")
        workdir = Path(workdir)
        if not workdir.is_dir():
            raise UserError(f"{workdir}: no such run directory")
        workdir = best_seed(workdir)
        return cls(workdir, read_config(workdir / "config.json"), Preprocessing.read(workdir / "dataset.json"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class, in the order of the logits."""
        return self.preprocessing.class_names

    @property
    def has_ema(self) -> bool:
        """Whether its checkpoints hold an average of the weights beside the weights themselves."""
        return self.config.optim.ema_decay is not None

    @property
    def report_folder(self) -> Path:
        """The folder that `evaluate` writes by default: RUN/report."""
        return self.workdir / "report"

    def metrics(self) -> "pd.DataFrame":
        """The records of metrics.jsonl, a row each: `kind` "epoch" has train_* and validation_*, "step" a batch's metrics."""
        import pandas as pd  # takes a second, for which only callers of this method should wait

        return pd.DataFrame(read_records(self.workdir))

    def step(self, which: str | int = "best") -> int:
        """The step that "best" or "latest" stands for; raises as `network`."""
        from cifar_flax.training.checkpoints.restore import find_step  # Orbax, for which readers of the records need not wait

        return find_step(self.workdir, which)

    def network(self, which: str | int = "best", ema: bool = True) -> Network:
        """Loads a checkpoint; the one loaded last is cached. A network outlives a checkpoint that a running training removes.

        Args:
          which: "best" by validation top-1 (the latest where there was no validation), "latest", or a step.
          ema: whether to take the averaged weights where the run kept an average; else the weights of the last update.

        Raises:
          UserError: there is no such checkpoint, or it is damaged.
        """
        from cifar_flax.training.checkpoints.restore import restore_networks

        if self._cached is None or self._cached[0].step != (self.step(which) if isinstance(which, str) else which):
            self._cached = restore_networks(self.workdir, self.config, self.preprocessing, which)
        return self._cached[0 if ema else 1]

    def params(self, which: str | int = "best") -> Any:
        """The tree of parameters of `network(which)`."""
        return self.network(which).variables["params"]

    def dataset(self, split: str) -> Dataset:
        """The images of "train" (without the validation images), "validation" or "test", as the run had them.

        Raises:
          UserError: no such split, or the data are missing or not what the run had; see
            `cifar_flax.data.provenance.load_as_trained`.
        """
        return load_as_trained(self.config.data, self.preprocessing, split, str(self.workdir))

    def logits(self, data: str | Dataset, which: str | int = "best", tta: str = "none") -> np.ndarray:
        """The logits of a checkpoint, float32 [N, C], for a split or other images of the same shape; see `Network.logits`."""
        dataset = self.dataset(data) if isinstance(data, str) else data
        return self.network(which).logits(dataset.images, tta)

    def evaluate(self, split: str = "test", which: str | int = "best") -> dict[str, Any]:
        """Scores a checkpoint on every image of a split once; see `Network.evaluate`."""
        return self.network(which).evaluate(split)

    def calibration(self, which: str | int = "best", ema: bool = True) -> Calibration:
        """The temperature of a checkpoint's probabilities, and where it comes from; arguments and errors as in `network`."""
        from cifar_flax.training.checkpoints.restore import find_calibration

        step = self.step(which) if isinstance(which, str) else which
        if self._cached is not None and self._cached[0].step == step:  # which a running training may have removed by now
            return self._cached[0 if ema else 1].calibration
        return find_calibration(self.workdir, step, ema or not self.has_ema)

    def score(self, logits: np.ndarray, labels: np.ndarray, which: str | int = "best", ema: bool = True) -> dict[str, Any]:
        """Scores logits of a checkpoint, float32 [N, C], against labels, int32 [N], by `evaluation.scores.scores`."""
        p, temperature = self.preprocessing, self.calibration(which, ema).temperature
        return scores(logits, labels, p.class_names, p.coarse_names, p.coarse_of_fine, temperature)


class BareRun(Run):
    """A network without its run directory, for what takes a run: one set of weights, no other checkpoints and no records."""

    def __init__(self, network: Network, source: str | Path) -> None:
        super().__init__(Path(source), network.config, network.preprocessing)
        self._network = network

    @property
    def has_ema(self) -> bool:
        """False: there is one set of weights."""
        return False

    @property
    def report_folder(self) -> Path:
        """NAME-report in the working directory: a weights file may lie where nothing should be written."""
        return Path(f"{self._network.file_stem}-report")

    def metrics(self) -> "pd.DataFrame":
        """An empty table."""
        import pandas as pd

        return pd.DataFrame()

    def calibration(self, which: str | int = "best", ema: bool = True) -> Calibration:
        """The calibration of the network; raises as `network`."""
        return self.network(which, ema or not self.has_ema).calibration

    def step(self, which: str | int = "best") -> int:
        """0, which stands for the only checkpoint; raises as `network`."""
        if which not in ("best", 0):
            raise UserError(f"{self.workdir}: has no checkpoint {which}, only its weights; others are in a run directory")
        return 0

    def network(self, which: str | int = "best", ema: bool = True) -> Network:
        """The network.

        Raises:
          UserError: another checkpoint than "best" is asked for, or the weights of the last update.
        """
        self.step(which)
        if not ema:
            raise UserError(f"{self.workdir}: has one set of weights; those of the last update are in a run directory")
        return self._network


def open_run(source: str | Path) -> Run:
    """Opens whatever names a trained network; where that has no run directory, as a `BareRun`.

    Args:
      source: a run directory; or a network that needs none, as `pretrained.load_weights` takes it: "pretrained:fast" or "fast",
        which comes with the package, "x.safetensors", a folder that export --format=huggingface wrote, or "hf:USER/NAME".

    Raises:
      UserError: there is none, it is damaged, or it is somebody's code and not trusted.
    """
    if (network := load_weights(source)) is not None:
        return BareRun(network, source)
    if not Path(source).is_dir():
        names = ", ".join(pretrained_names())
        raise UserError(
            f"{source}: no such network; expected a run directory, a .safetensors file, hf:USER/NAME, or one of {names}"
        )
    return Run.open(source)


def load_network(source: str | Path, which: str | int = "best", ema: bool = True) -> Network:
    """Loads a trained network.

    Args:
      source: a run directory; "pretrained:fast", or "fast", for weights of the package; a file, "x.safetensors", or a folder
        that `export` wrote; or "hf:USER/NAME", such a folder on the Hugging Face Hub.
      which: checkpoint of a run, as in `Run.network`.
      ema: weights of a run, as in `Run.network`.

    Raises:
      UserError: there is none, or it is damaged.
    """
    return open_run(source).network(which, ema)
