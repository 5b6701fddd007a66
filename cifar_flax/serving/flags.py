"""The flags by which predict and serve choose a network, and how it sees pictures."""

from typing import TYPE_CHECKING, TypedDict

from absl import flags

from cifar_flax.errors import UserError

if TYPE_CHECKING:
    from cifar_flax.data.pictures.fit import Fit
    from cifar_flax.network import Network


class ViewOptions(TypedDict):
    """Arguments of `Network.predict` that the flags set."""

    fit: "Fit"
    flip: bool


def define_network_flags() -> None:
    """Defines --run, --pretrained, --fit and --flip."""
    flags.DEFINE_string("run", None, "run directory")
    flags.DEFINE_string("pretrained", None, "name of a network that comes with cifar_flax")
    flags.DEFINE_enum("fit", "crop", ["crop", "squash", "pad"], "how a picture that is not square becomes so")
    flags.DEFINE_bool("flip", False, "average over the picture and its mirror image; takes twice as long")


def network_from_flags() -> "Network":
    """Loads the network of --run or --pretrained, or the only one that comes with the package, and compiles it.

    Raises:
      UserError: both flags are given, or neither, or there is no such network; or its outputs are not finite.
    """
    if flags.FLAGS.run and flags.FLAGS.pretrained:
        raise UserError("--run and --pretrained: expected one of them")
    if flags.FLAGS.run:
        from cifar_flax.run import Run  # after the flags are checked: a typo should not wait for JAX

        network = Run.open(flags.FLAGS.run).network("best")
    else:
        network = _pretrained(flags.FLAGS.pretrained)
    import numpy as np

    black = np.zeros((1, *network.preprocessing.image_shape), np.uint8)
    network.probabilities(black, flags.FLAGS.flip)  # compiles, and refuses a network that has diverged
    return network


def view_options_from_flags() -> ViewOptions:
    """The values of --fit and --flip."""
    from cifar_flax.data.pictures.fit import Fit

    return {"fit": Fit(flags.FLAGS.fit), "flip": flags.FLAGS.flip}


def _pretrained(name: str | None) -> "Network":
    from cifar_flax.pretrained import load_pretrained, pretrained_names

    names = pretrained_names()
    if not name and len(names) != 1:
        hint = f", or one that comes with cifar_flax by --pretrained={'|'.join(names)}" if names else ""
        raise UserError(f"no network is named; give a run that you trained with --run=DIRECTORY{hint}")
    return load_pretrained(name or names[0])
