"""Networks without their run: those that come with the package, weights files, exported folders and repositories of the Hub."""

from pathlib import Path

from cifar_flax.errors import UserError
from cifar_flax.files.layout import WEIGHTS, is_exported
from cifar_flax.network import Network
from cifar_flax.pretrained.hub import PREFIX as HUB
from cifar_flax.pretrained.hub import download
from cifar_flax.pretrained.weights import SUFFIX, check_variables, read_weights

FOLDER = Path(__file__).parent
PREFIX = "pretrained:"  # of a name where a run directory could stand too


def pretrained_names() -> tuple[str, ...]:
    """The names that `load_pretrained` takes."""
    return tuple(sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}")))


def load_pretrained(name: str) -> Network:
    """Loads a network that comes with the package.

    Raises:
      UserError: there is none of that name, or its file is damaged.
    """
    if name not in pretrained_names():
        raise UserError(f"no pretrained network {name!r}; expected one of {', '.join(pretrained_names()) or '(none yet)'}")
    return read_weights(FOLDER / f"{name}{SUFFIX}")


def is_bundled(source: str | Path) -> bool:
    """Whether `source` names a network that comes with the package: `pretrained:NAME`, or NAME where no such file is here."""
    name = str(source)
    return name.startswith(PREFIX) or (name in pretrained_names() and not Path(source).exists())


def is_weights(source: str | Path) -> bool:
    """Whether `load_weights` takes `source` for a network that needs no run, be there one of that name or not."""
    name, path = str(source), Path(source)
    return is_bundled(source) or name.startswith(HUB) or name.endswith(SUFFIX) or is_exported(path)


def load_weights(source: str | Path) -> Network | None:
    """Loads a network that needs no run: `pretrained:NAME`, NAME, FILE.safetensors, a folder of export, or `hf:USER/NAME`.

    What others may have made is checked before it computes anything, and may not have their code imported; see `trust`.

    Returns:
      The network; None where `source` is nothing of that kind, and may be a run directory.

    Raises:
      UserError: there is no such network, it is damaged, or it is none of cifar_flax.
    """
    name, path = str(source), Path(source)
    if is_bundled(source):
        return load_pretrained(name.removeprefix(PREFIX))
    if isinstance(source, str) and name in pretrained_names():  # one's figures would pass for the other's
        raise UserError(f"{name}: both a path here and a network that comes with cifar_flax; type ./{name} or {PREFIX}{name}")
    if name.startswith(("http://", "https://")):
        raise UserError(f"{name}: no network is downloaded from an address; get the file first, or name hf:USER/NAME")
    if name.startswith(HUB):
        network = read_weights(download(name))
        network.name = name.removeprefix(HUB)
    elif name.endswith(SUFFIX):
        network = read_weights(path)
    elif is_exported(path):
        network = read_weights(path / WEIGHTS)
        network.name = path.resolve().name
    else:
        return None
    check_variables(network, name)
    return network
