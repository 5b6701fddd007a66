"""The flags by which predict and serve choose a network, and how it sees pictures."""

from typing import TYPE_CHECKING

from absl import flags

from cifar_flax.runtime.command_line import NETWORK
from cifar_flax.runtime.flag_values import Fit

if TYPE_CHECKING:
    from cifar_flax.network import Network


def define_network_flags() -> None:
    """Defines --run, --fit and --flip."""
    flags.DEFINE_string("run", "pretrained:fast", NETWORK)
    flags.DEFINE_enum("fit", "crop", list(Fit), "how a picture that is not square becomes so")
    flags.DEFINE_bool("flip", False, "average over the picture and its mirror image; takes twice as long")


def network_from_flags() -> "Network":
    """Loads the network of --run, and compiles it.

    Raises:
      UserError: there is no such network, or its outputs are not finite.
    """
    from cifar_flax.run import load_network  # after the flags are checked: a typo should not wait for JAX

    network = load_network(flags.FLAGS.run)
    import numpy as np

    black = np.zeros((1, *network.preprocessing.image_shape), np.uint8)
    network.probabilities(black, flags.FLAGS.flip)  # compiles, and refuses a network that has diverged
    return network
