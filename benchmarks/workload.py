"""The work that all frameworks do alike: recipe, images, parameters, and how far their results may differ."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cifar_flax.config import AugmentConfig, Config, EarlyStoppingConfig, OptimizerSpec, PlateauConfig
from cifar_flax.config.types import Normalization
from cifar_flax.errors import RunFailed
from cifar_flax.models import ConvNet, ResNet
from cifar_flax.optim import SGD, Adam, AdamW

CLASSES = 100
PRODUCT = 2048  # rows and columns of the matrices whose product stands for what the machine can do
LEARNING_RATE = 1e-3  # low, so that no number leaves its range however long the same images are learnt
TOLERANCE = 1e-3  # of ||theirs - ours|| / ||ours||, for logits and for the gradient of each parameter


@dataclass(frozen=True)
class Workload:
    """A batch and a network to train on it.

    Attributes:
      config: of the network and its step; from `common_recipe`.
      images: uint8 [N, H, W, 3].
      labels: int32 [N], in [0, CLASSES).
      params: float32 arrays by path, such as `block0_conv0/kernel`, kernels being [size, size, in, out] or [in, out].
      batch_stats: float32 arrays by path, such as `block0_norm/mean`.
      frozen: paths of the parameters that are not trained.
    """

    config: Config
    images: np.ndarray
    labels: np.ndarray
    params: dict[str, np.ndarray]
    batch_stats: dict[str, np.ndarray]
    frozen: frozenset[str]

    @property
    def inputs(self) -> np.ndarray:
        """Input of the network: float32 [N, H, W, 3], the images / 255."""
        return self.images / np.float32(255)

    def without_dropout(self) -> "Workload":
        """The same without what is random."""
        config = copy.deepcopy(self.config)
        if isinstance(config.model, ConvNet):
            for block in config.model.blocks:
                block.dropout = 0.0
            for dense in config.model.dense:
                dense.dropout = 0.0
        elif isinstance(config.model, ResNet):
            config.model.dropout = 0.0
        return replace(self, config=config)


@dataclass(frozen=True)
class Answer:
    """Results of a framework for a workload without dropout; those of another must agree with them.

    Attributes:
      logits: float32 [N, CLASSES], BatchNorm using the batch.
      eval_logits: float32 [N, CLASSES], BatchNorm using its statistics.
      gradients: of the loss, by path and in the shapes of `Workload.params`; none of frozen parameters.
    """

    logits: np.ndarray
    eval_logits: np.ndarray
    gradients: dict[str, np.ndarray]


def common_recipe(config: Config) -> Config:
    """`config` with the training that all frameworks have, for the same network.

    Adam, AdamW and SGD stay, as Adam and SGD; any other optimizer becomes SGD with Nesterov momentum. Label smoothing and
    frozen parameters stay. Augmentation, weight decay, groups, clipping, averaging, sharpness-aware minimisation and schedules
    go: they are ours, or cost little beside the network.
    """
    config = copy.deepcopy(config)
    old = config.optim
    new: OptimizerSpec
    if isinstance(old, Adam | AdamW):
        new = Adam(b1=old.b1, b2=old.b2, eps=old.eps)
    elif isinstance(old, SGD):
        new = SGD(momentum=old.momentum, nesterov=old.nesterov)
    else:
        new = SGD(momentum=0.9, nesterov=True)
    new.learning_rate, new.label_smoothing, new.freeze = LEARNING_RATE, old.label_smoothing, old.freeze
    config.optim, config.augment = new, AugmentConfig()
    config.plateau, config.early_stopping = PlateauConfig(), EarlyStoppingConfig()
    config.data.normalization = Normalization.UNIT
    return config


def check_agreement(name: str, ours: Sequence[Answer], theirs: Sequence[Answer]) -> float:
    """The largest relative difference, in the Euclidean norm, over logits and gradients.

    Of each the closest of several draws counts: in one, two places of a pooling window may be so nearly equal that rounding
    decides which has the gradient. What is built differently differs in all.

    Raises:
      RunFailed: it is above TOLERANCE, or other parameters have gradients; so the networks are not the same.
    """
    if ours[0].gradients.keys() != theirs[0].gradients.keys():
        odd = ", ".join(sorted(ours[0].gradients.keys() ^ theirs[0].gradients.keys()))
        raise RunFailed(f"{name} and ours do not train the same parameters ({odd}); nothing was timed")
    draws = [_errors(*pair) for pair in zip(ours, theirs, strict=True)]
    errors = {what: min(errors[what] for errors in draws) for what in draws[0]}
    worst = max(errors, key=errors.__getitem__)
    if errors[worst] > TOLERANCE:
        raise RunFailed(f"{name} differs from ours by {errors[worst]:.1e} in the {worst}, above {TOLERANCE:.0e}; not timed")
    return errors[worst]


def _errors(ours: Answer, theirs: Answer) -> dict[str, float]:
    return {
        "logits": _relative_error(ours.logits, theirs.logits),
        "logits in evaluation": _relative_error(ours.eval_logits, theirs.eval_logits),
        **{f"gradient of {path}": _relative_error(g, theirs.gradients[path]) for path, g in ours.gradients.items()},
    }


def _relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    scale = max(float(np.linalg.norm(ours)), float(np.finfo(np.float32).tiny))
    return float(np.linalg.norm(theirs.astype(np.float64) - ours) / scale)
