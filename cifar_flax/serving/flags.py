"""The flags by which predict and serve choose a network, and the classifier that they ask for."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from cifar_flax.errors import UserError

if TYPE_CHECKING:
    from cifar_flax.serving.classifier import Classifier, Source


class Network(NamedTuple):
    """What the flags ask for: the classifier, and what its network is called."""

    name: str
    classifier: "Classifier"


def define_network_flags() -> None:
    """Defines --run, --pretrained, --fit and --flip."""
    flags.DEFINE_string("run", None, "run directory")
    flags.DEFINE_string("pretrained", None, "name of a network that comes with cifar_flax")
    flags.DEFINE_enum("fit", "crop", ["crop", "squash", "pad"], "how a picture that is not square becomes so")
    flags.DEFINE_bool("flip", False, "average over the picture and its mirror image; takes twice as long")


def network_from_flags() -> Network:
    """Opens and compiles what --run or --pretrained names; without either, the network in the box, if there is just one.

    Raises:
      UserError: both are named, or neither, or what is named is not there.
    """
    if flags.FLAGS.run and flags.FLAGS.pretrained:
        raise UserError("--run and --pretrained: expected one of them")
    name, source = _run(flags.FLAGS.run) if flags.FLAGS.run else _pretrained(flags.FLAGS.pretrained)
    from cifar_flax.serving.classifier import Classifier, Fit  # after the flags are checked: a typo should not wait for JAX

    return Network(name, Classifier(source, Fit(flags.FLAGS.fit), flags.FLAGS.flip))


def _run(workdir: str) -> tuple[str, "Source"]:
    from cifar_flax.run import Run

    return Path(workdir).resolve().name, Run.open(workdir)


def _pretrained(name: str | None) -> tuple[str, "Source"]:
    from cifar_flax.pretrained import load_pretrained, pretrained_names

    names = pretrained_names()
    if not name and len(names) != 1:
        hint = f", or one of the networks in the box with --pretrained={'|'.join(names)}" if names else ""
        raise UserError(f"no network is named; give a run that you trained with --run=DIRECTORY{hint}")
    return name or names[0], load_pretrained(name or names[0])
