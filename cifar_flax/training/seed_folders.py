"""A folder of runs that differ in the seed alone, as `--config.train.num_seeds` leaves it."""

import re
from collections.abc import Sequence
from pathlib import Path

from cifar_flax.errors import UserError
from cifar_flax.files.folder import read_json

SEED = re.compile(r"seed[0-9]+")  # names of the run directories in it
SUMMARY = "seeds.json"  # {"score": its name, "seeds": {folder: score}, "mean": .., "sd": .. or null, "diverged": [folder]}


def holds_seeds(workdir: Path) -> bool:
    """Whether the folder stands for seeds: it has their summary, and no run of its own."""
    return (workdir / SUMMARY).is_file() and not (workdir / "config.json").exists()


def seed_folders(workdir: Path) -> list[Path]:
    """The run directories in it, in the order of their seeds.

    Raises:
      UserError: the summary is missing or damaged.
    """
    return [workdir / name for name in _read_summary(workdir)[1]]


def expand_seeds(workdirs: Sequence[str]) -> list[str]:
    """The run directories, with the seeds in the place of a folder of seeds; raises as `seed_folders`."""
    expanded = [seed_folders(Path(d)) if holds_seeds(Path(d)) else [d] for d in workdirs]
    return [str(run) for runs in expanded for run in runs]


def best_seed(workdir: Path) -> Path:
    """The run directory that stands for a folder of seeds: the best in validation, or the first where nothing was validated.

    Any other folder stands for itself; raises as `seed_folders`.
    """
    if not holds_seeds(workdir):
        return workdir
    score, seeds = _read_summary(workdir)
    return workdir / (max(seeds, key=lambda name: seeds[name]) if score.startswith("validation") else next(iter(seeds)))


def _read_summary(workdir: Path) -> tuple[str, dict[str, float]]:
    """The name of the score, and the score of each seed."""
    path = workdir / SUMMARY
    try:
        summary = read_json(path)
        score, seeds = summary["score"], summary["seeds"]
        if not seeds or not all(SEED.fullmatch(name) and isinstance(value, float) for name, value in seeds.items()):
            raise ValueError
        return str(score), seeds
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; have all seeds been trained?") from None
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path}: damaged; train again with the same command, without --restart, which only writes it anew"
        ) from None
