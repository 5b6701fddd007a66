"""The JSON beside the arrays of a checkpoint: progress, and checksums that are computed while the arrays are written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import future

from cifar_flax.files.checksum import dumps_checksummed, read_checksummed, sha256_of_arrays
from cifar_flax.runtime.multihost import is_main_process
from cifar_flax.training.checkpoints.path import LiteralPath

FILE = "info.json"  # {"progress": ..., "sha256": {item: SHA-256}} and its own checksum


def digest(tree: Any) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of all leaves, in order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return sha256_of_arrays({jax.tree_util.keystr(path): leaf for path, leaf in leaves})


def this_process_alone() -> ocp.options.MultiprocessingOptions:
    """Makes Orbax read without waiting for the other processes, which may read something else, or fail."""
    return ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()})


def verify_written(folder: Path, items: dict[str, Any]) -> None:
    """Reads a checkpoint back, by this process alone and without its devices.

    Args:
      folder: of the checkpoint, complete.
      items: trees of host arrays of the shapes and dtypes that were saved.

    Raises:
      Exception: whatever the layer raises that cannot read it; ValueError where it reads other numbers.
    """
    sha256 = read_checksummed(folder / "info" / FILE)["sha256"]
    for name, item in items.items():
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=this_process_alone())
        if digest(handler.restore(LiteralPath(folder / name), args=ocp.args.StandardRestore(item))) != sha256[name]:
            raise ValueError(f"what was read back as {name} is not what was written")


class _InfoHandler(ocp.AsyncCheckpointHandler):
    @classmethod
    def typestr(cls) -> str:
        """Its name in the metadata of checkpoints; a constant, since moving this module must not make them unreadable."""
        return "cifar_flax.training.checkpoint_info._InfoHandler"

    def save(self, directory: Any, args: "InfoSave") -> None:
        if is_main_process():
            sha256 = {name: digest(item) for name, item in args.items.items()}
            text = dumps_checksummed({"progress": args.progress, "sha256": sha256})
            (Path(directory) / FILE).write_text(text, encoding="utf-8")

    async def async_save(self, directory: Any, args: "InfoSave") -> list[future.Future]:
        async def write() -> None:
            self.save(directory, args)  # in a thread that Orbax starts for it

        return [future.CommitFutureAwaitingContractedSignals(write(), name="info")]

    def restore(self, directory: Any, args: "InfoRestore | None" = None) -> dict[str, Any]:
        return read_checksummed(Path(directory) / FILE)


@ocp.args.register_with_handler(_InfoHandler, for_save=True)
@dataclass
class InfoSave(ocp.args.CheckpointArgs):
    """Asks Orbax to write the info of a checkpoint.

    Attributes:
      progress: JSON object.
      items: trees of host arrays to take the checksums of, by name; only the main process reads them.
    """

    progress: dict[str, Any]
    items: dict[str, Any]


@ocp.args.register_with_handler(_InfoHandler, for_restore=True)
@dataclass
class InfoRestore(ocp.args.CheckpointArgs):
    """Asks Orbax to read the info of a checkpoint."""
