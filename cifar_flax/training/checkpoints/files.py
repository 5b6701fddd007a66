"""The files of checkpoints, beside Orbax: damaged ones are moved aside, and one that is replaced is kept for a while."""

import json
import os
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from absl import logging

from cifar_flax.errors import UserError
from cifar_flax.files.checksum import verify_checksum
from cifar_flax.files.folder import make_folder, read_json
from cifar_flax.files.redact import reason, visible

STEP = re.compile(r"0|[1-9][0-9]*")  # the name of a checkpoint
TAKEN_FOR_STEP = re.compile(r"(0|[1-9]\d*)$")  # by Orbax, which takes 1٣ for 13
METADATA = "_CHECKPOINT_METADATA"  # of Orbax, which does without it, but not with one of other types than its own
CHECKPOINTS = "checkpoints"  # folders of a run directory
REPLACED = "replaced_checkpoints"  # that of an epoch's last step, until the one with its validation is complete
DAMAGED = "damaged_checkpoints"


def steps_in(folder: Path) -> set[int]:
    """The steps of the complete checkpoints in a folder; empty where there is none."""
    return {int(path.name) for path in folder.glob("*") if STEP.fullmatch(path.name)}


def saved_steps(workdir: Path) -> list[int]:
    """The steps that a run can be resumed from, rising."""
    return sorted(steps_in(workdir / CHECKPOINTS) | steps_in(workdir / REPLACED))


def set_aside(workdir: Path, step: int) -> None:
    """Moves a checkpoint out of the way of another of the same step."""
    make_folder(workdir / REPLACED)
    os.replace(workdir / CHECKPOINTS / str(step), workdir / REPLACED / str(step))


def settle_replaced(workdir: Path) -> None:
    """Removes a checkpoint that was set aside, or, where a kill came before the other was complete, puts it back."""
    for path in (workdir / REPLACED).glob("*"):
        if (workdir / CHECKPOINTS / path.name).exists():
            shutil.rmtree(path)
        else:
            os.replace(path, workdir / CHECKPOINTS / path.name)
    if (workdir / REPLACED).exists():
        (workdir / REPLACED).rmdir()


def quarantine(workdir: Path, *parts: int | str) -> None:
    """Moves checkpoints, or parts of them such as "8/metrics", to `damaged_checkpoints`."""
    make_folder(workdir / DAMAGED)
    for part in map(str, parts):
        shutil.move(workdir / CHECKPOINTS / part, workdir / DAMAGED / f"{part.replace('/', '-')}-{time.time_ns()}")


def check_files(workdir: Path, read_only: bool) -> None:
    """Moves checkpoints aside, with a warning, at which Orbax would fail or wait: it reads the metadata of all at once.

    Raises:
      UserError: there are such checkpoints, and nothing is to be written, or none of the others is left.
    """
    folder = workdir / CHECKPOINTS
    faults = {path.name: _fault(path) for path in sorted(folder.glob("*")) if TAKEN_FOR_STEP.match(path.name)}
    damaged = {step: fault for step, fault in faults.items() if fault}
    for step, fault in damaged.items():
        message = f"checkpoint {visible(step)} in {folder} is damaged ({fault})"
        if read_only:
            raise UserError(message)
        logging.warning("%s", message)
    if damaged and len(damaged) == len(faults):
        raise UserError(f"no checkpoint in {folder} is intact; --restart begins again and keeps what is there beside")
    if damaged:
        quarantine(workdir, *damaged)


def _fault(checkpoint: Path) -> str:
    """The first entry that Orbax cannot read or would wait for; "" if there is none."""
    if not STEP.fullmatch(checkpoint.name):
        return "its name is no step"
    for path in [checkpoint, *checkpoint.rglob("*")]:
        is_folder = os.path.isdir(path) and not path.is_symlink()
        if (
            not is_folder and (path == checkpoint or not os.path.isfile(path)) and os.path.lexists(path)
        ):  # not removed meanwhile
            return f"{visible(str(path.relative_to(checkpoint.parent)))} is neither a file nor a folder"
    try:
        read_json(checkpoint / METADATA)
    except (OSError, json.JSONDecodeError):
        return ""
    except ValueError as e:
        return f"{METADATA}: {e}"
    import orbax.checkpoint as ocp  # for which readers of the records need not wait

    try:
        written = ocp.metadata.get_step_metadata(checkpoint).commit_timestamp_nsecs
        datetime.fromtimestamp((written or 0) / 1e9, UTC)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError) as e:
        return f"{METADATA}: {reason(e)}"
    return ""


def check_scores(workdir: Path, read_only: bool) -> None:
    """Moves scores that cannot be read aside, with a warning: Orbax reads those of all checkpoints at once.

    Raises:
      UserError: there are such scores, and nothing is to be written.
    """
    for path in sorted((workdir / CHECKPOINTS).glob("*/metrics/metrics")):
        step = path.parts[-3]
        if not STEP.fullmatch(step):  # still being written, or left by a kill
            continue
        try:
            scores = read_json(path)
            if scores and not all(isinstance(score, int | float) for score in verify_checksum(scores).values()):
                raise ValueError("a score is no number")  # {} where there are none
        except ValueError:
            if read_only:
                raise UserError(f"checkpoint {step} in {workdir / CHECKPOINTS} has damaged scores") from None
            logging.warning("checkpoint %s in %s has damaged scores; they are left out", step, workdir / CHECKPOINTS)
            quarantine(workdir, f"{step}/metrics")
