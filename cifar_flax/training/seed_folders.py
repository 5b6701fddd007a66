"""A folder of runs that differ in the seed alone, as `--config.train.num_seeds` leaves it."""

import re
from pathlib import Path

from cifar_flax.errors import UserError
from cifar_flax.files.folder import read_json

SUMMARY = "seeds.json"  # {"score": what is compared, "seeds": {folder: score}, "mean": ..., "sd": ...}


def seed_folders(workdir: Path) -> list[Path]:
    """The run directories in it, in the order of their seeds.

    Raises:
      UserError: the summary is missing or damaged.
    """
    path = workdir / SUMMARY
    try:
        seeds = read_json(path)["seeds"]
        if not isinstance(seeds, dict) or not all(re.fullmatch(r"seed\d+", name) for name in seeds):
            raise ValueError
        return [workdir / name for name in seeds]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; have all seeds been trained?") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; train again with the same command, which only writes it anew") from None
