"""The trainings and searches behind every claim of the five write-ups, and behind our own figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cifar_flax.config import Config
from cifar_flax.config.files import load_config
from cifar_flax.errors import UserError

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Training:
    """A config, trained with seeds 0, 1, ...

    Attributes:
      config: as `cifar-flax list` has it, such as "three_conv:short".
      epochs: in place of those of the config.
      seeds: how many.
      color: whether it is scored in grey and with turned hues as well.
      tta: whether it is scored with test-time augmentation as well.
    """

    config: str
    epochs: int | None = None
    seeds: int = 1
    color: bool = False
    tta: bool = False

    @property
    def name(self) -> str:
        """The config, and the epochs where they are not its own: "mlp@100"."""
        return self.config + (f"@{self.epochs}" if self.epochs else "")

    def arguments(self) -> list[str]:
        """The flags of launch/train.py for seed 0."""
        return [flag(self.config)] + ([f"--config.train.epochs={self.epochs}"] if self.epochs else [])


@dataclass(frozen=True)
class Search:
    """A search of launch/search.py.

    Attributes:
      name: also that of its space, configs/search/NAME.py.
      config: whose fields it varies.
      trials: how many.
      options: further flags.
      epochs: in place of those of the config.
      folds: runs a trial.
      init_from: the training with whose weights each trial begins.
    """

    name: str
    config: str
    trials: int
    options: tuple[str, ...]
    epochs: int | None = None
    folds: int = 1
    init_from: str | None = None
    seeds: int = 1

    def arguments(self) -> list[str]:
        """The flags of launch/search.py, but for --workdir and --config.train.init_from."""
        epochs = [f"--config.train.epochs={self.epochs}"] if self.epochs else []
        folds = [f"--folds={self.folds}"] if self.folds > 1 else []
        space = f"--space=configs/search/{self.name}.py"
        return [flag(self.config), *epochs, space, *self.options, f"--trials={self.trials}", *folds]


Claim = Training | Search

GROUPS: Mapping[str, tuple[Claim, ...]] = {
    "A": (
        Training("wide:short", seeds=3, color=True),
        Training("narrow:short", seeds=3, color=True),
        Training("deep:short", seeds=3),
        Training("narrow", color=True),
        Training("deep"),
        Training("wide", color=True),
        Training("wide:published", color=True),
        Search("wide_grid", "narrow", 54, ("--strategy=grid",), epochs=5),
    ),
    "B": (
        Training("three_conv:short", seeds=3),
        Training("three_conv", seeds=3),
        *(Training(f"three_conv:{name}") for name in ("no_augment", "dropout", "decay", "sgd", "lr_1e-3", "sgd_tuned")),
    ),
    "C": (Training("small_kernels"), Training("small_kernels:relu")),
    "D": (
        Training("mlp"),
        Training("mlp", epochs=100),
        Training("two_conv"),
        Training("bigger_conv"),
        Training("bigger_conv:dropout"),
        Training("bigger_conv:adam"),
    ),
    "E": (
        Training("vgg_bn:short", seeds=3),
        Training("vgg_bn"),
        *(
            Training(f"vgg_bn:{name}")
            for name in ("base", "augment", "dropout", "two_dense", "one_block", "five_blocks", "baseline")
        ),
        Search(
            "vgg_bn_random", "vgg_bn:search", 20, ("--strategy=random", "--noprune"), folds=5, init_from="vgg_bn"
        ),
    ),
    "ours": (
        Training("quickstart", seeds=5),
        Training("fast:sprint", seeds=5, tta=True),
        Training("fast", seeds=5, tta=True),
        Training("fast:long", tta=True),
        Training("fast:taught", seeds=3, tta=True),
        Training("fast:bundled"),
        Training("fast10", tta=True),
        Training("fast10:long", tta=True),
    ),
    "summit": (Training("summit", tta=True), Training("summit:minute", seeds=3, tta=True)),
}  # fmt: skip


def select(names: Sequence[str]) -> list[Claim]:
    """The claims of these names and groups, in the order of the list; all where there are no names.

    A config may be called as the tables do, "three_conv.py:decay", and "three_conv:decay@20" is that for 20 epochs.

    Raises:
      UserError: there is none of a name.
    """
    names = [name.removeprefix("configs/").replace(".py", "") for name in names]
    everything = {claim.name: claim for group in GROUPS.values() for claim in group}
    for name in names:
        base, _, epochs = name.partition("@")
        if name not in everything and isinstance(claim := everything.get(base), Training) and epochs.isdecimal():
            everything[name] = replace(claim, epochs=int(epochs))
    if wrong := [name for name in names if name not in everything and name not in GROUPS]:
        raise UserError(f"--only: no {wrong[0]!r}; expected some of {', '.join(GROUPS)}, {', '.join(everything)}")
    wanted = {claim.name for name in names for claim in GROUPS.get(name, ())} | set(names)
    return [claim for name, claim in everything.items() if not names or name in wanted]


def flag(config: str) -> str:
    """`--config=configs/FILE.py:VARIANT`."""
    stem, _, variant = config.partition(":")
    return f"--config=configs/{stem}.py" + (f":{variant}" if variant else "")


def loaded(claim: Claim) -> Config:
    """The config, with the claim's epochs."""
    config = load_config(claim.config)
    if claim.epochs:
        config.train.epochs = claim.epochs
    return config
