"""Weights from the Hugging Face Hub: `hf:USER/NAME`, a repository that holds the folder of export --format=huggingface."""

import re
from pathlib import Path

from cifar_flax.errors import UserError
from cifar_flax.files.folder import read_json
from cifar_flax.files.installation import install_command
from cifar_flax.files.layout import CONFIG, WEIGHTS
from cifar_flax.files.redact import named_reason

PREFIX = "hf:"
REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
LIBRARY = "cifar_flax"  # the `library_name` in a config.json of ours


def download(name: str) -> Path:
    """Downloads the weights of a repository into the cache of huggingface_hub, once for each of its commits.

    Args:
      name: `hf:USER/NAME`, or `hf:USER/NAME@REVISION` with a branch, a tag or a commit.

    Returns:
      The weights file, which is a stranger's.

    Raises:
      UserError: huggingface_hub is missing, there is no such repository, it cannot be reached, or it holds something else.
    """
    match = REPOSITORY.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise UserError(f"{name}: expected hf:USER/NAME, or hf:USER/NAME@REVISION")
    if not is_exported_config(_fetch(name, match[1], match[2], CONFIG)):  # before a file of gigabytes is downloaded
        raise UserError(f"{name}: not a network of cifar_flax; expected what export --format=huggingface writes")
    return _fetch(name, match[1], match[2], WEIGHTS)


def is_exported_config(config: Path) -> bool:
    """Whether a config.json is one that export --format=huggingface wrote."""
    try:
        values = read_json(config)
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("library_name") == LIBRARY


def _fetch(name: str, repository: str, revision: str | None, file: str) -> Path:
    try:
        from huggingface_hub import errors, hf_hub_download  # type: ignore[import-not-found]  # an extra
    except ImportError:
        raise UserError(f"{name}: takes the library huggingface_hub; type  {install_command('huggingface')}") from None
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except errors.RevisionNotFoundError:
        raise UserError(f"{name}: the repository has no revision {revision}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{name}: no such repository on the Hugging Face Hub; if it is private, log in first with  hf auth login"
        ) from None
    except errors.LocalEntryNotFoundError:
        raise UserError(f"{name}: the Hugging Face Hub cannot be reached, and {file} was not downloaded before") from None
    except errors.EntryNotFoundError:
        raise UserError(
            f"{name}: not a network of cifar_flax: it has no {file}; expected what export --format=huggingface writes"
        ) from None
    except Exception as e:  # whatever its HTTP client raises
        raise UserError(f"{name}: cannot be fetched from the Hugging Face Hub ({named_reason(e)})") from None
