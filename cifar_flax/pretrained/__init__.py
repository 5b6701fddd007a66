"""The networks that come with the package, a safetensors file each."""

from pathlib import Path

from cifar_flax.errors import UserError
from cifar_flax.network import Network
from cifar_flax.pretrained.weights import read_weights

FOLDER = Path(__file__).parent
PREFIX = "pretrained:"  # of a name where a run directory could stand too


def pretrained_names() -> tuple[str, ...]:
    """The names that `load_pretrained` takes."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.safetensors")))


def load_pretrained(name: str) -> Network:
    """Loads a network that comes with the package.

    Raises:
      UserError: there is none of that name, or its file is damaged.
    """
    if name not in pretrained_names():
        raise UserError(f"no pretrained network {name!r}; expected one of {', '.join(pretrained_names()) or '(none yet)'}")
    return read_weights(FOLDER / f"{name}.safetensors")
