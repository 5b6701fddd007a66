"""A folder of runs that differ in the seed alone, as `--config.train.num_seeds` leaves it."""

import json
from pathlib import Path

from cifar_flax.errors import UserError

SUMMARY = "seeds.json"  # {"score": what is compared, "seeds": {folder: score}, "mean": ..., "sd": ...}


def seed_folders(workdir: Path) -> list[Path]:
    """The run directories in it, in the order of their seeds.

    Raises:
      UserError: the summary is missing or damaged.
    """
    path = workdir / SUMMARY
    try:
        return [workdir / name for name in json.loads(path.read_text(encoding="utf-8"))["seeds"]]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; have all seeds been trained?") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; train again with the same command, which only writes it anew") from None
