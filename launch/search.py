r"""Searches hyper-parameters, or goes on with a search.

    python launch/search.py --config=quickstart --space=learning_rate \
        --strategy=tpe --trials=20

Each trial is a run directory in WORKDIR/trials; the ranking is WORKDIR/trials.csv. docs/search.md says more.
"""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start(large_pages=True)  # before what takes long to import

import importlib.util
import math
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from cifar_flax.config.flags import define_config_flag, experiment_from_flags
from cifar_flax.errors import Preempted, UserError
from cifar_flax.files.installation import install_command
from cifar_flax.runtime import app
from cifar_flax.search.space import Space, fingerprint

_SPACE = flags.DEFINE_string("space", None, "what to vary: FILE.py, or a name such as wide_grid", required=True)
_STRATEGY = flags.DEFINE_enum("strategy", None, ["grid", "random", "tpe"], "how values are chosen", required=True)
_TRIALS = flags.DEFINE_integer(
    "trials", None, "number of trials of all processes together; default: all points of a grid", lower_bound=1
)
_FOLDS = flags.DEFINE_integer(
    "folds", None, "number of folds: runs of a trial, each with another part of train held out", lower_bound=2
)
_PRUNE = flags.DEFINE_bool(
    "prune", True, "prune trials that are worse than the median of earlier ones at the same epoch; --noprune: none"
)
_STORAGE = flags.DEFINE_string("storage", None, "SQLAlchemy URL of the database; default: SQLite in WORKDIR/study.db")
_STUDY = flags.DEFINE_string("study", None, "name in the database; default: from the config, the space and the strategy")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the trials; default: runs/search/STUDY")
_MAX_MINUTES = flags.DEFINE_float(
    "max_minutes", None, "save, show what is finished, and end with exit code 75 after so long", lower_bound=0
)
_HEARTBEAT = flags.DEFINE_integer(
    "heartbeat",
    15,
    "seconds between signs of life of a trial's process, which is taken for dead after six without",
    lower_bound=1,
)
define_config_flag()


def main() -> None:
    """Checks the flags, runs trials until all are finished, and summarizes them."""
    experiment = experiment_from_flags()
    base, space = experiment.config, Space.load(Path(_SPACE.value))
    space.check(base, _FOLDS.value)
    trials = _trials(space)
    if missing := [name for name in ("optuna", "matplotlib") if importlib.util.find_spec(name) is None]:
        raise UserError(f"{' and '.join(missing)} not installed; a search needs  {install_command('search')}")
    name = _STUDY.value or f"{experiment.name}-{space.path.stem}-{_STRATEGY.value}"
    workdir = Path(_WORKDIR.value or Path("runs") / "search" / name)

    # After the flags are checked: a typo should not wait for JAX and Optuna.
    from cifar_flax.runtime.compilation_cache import enable_persistent_cache
    from cifar_flax.search import report
    from cifar_flax.search.objective import Search, run_trials
    from cifar_flax.search.storage import database_errors_explained, sqlite_url
    from cifar_flax.search.study import Study
    from cifar_flax.training.checkpoints.path import checkpoint_folder

    checkpoint_folder(workdir)
    enable_persistent_cache()
    search = Search(base, space, workdir, _FOLDS.value)
    search.check()  # before the study is made: its trials would all fail
    workdir.mkdir(parents=True, exist_ok=True)
    study = Study(
        _STORAGE.value or sqlite_url(workdir / "study.db"),
        name,
        space,
        _STRATEGY.value,
        trials,
        seed=base.seed,
        prune_from=math.ceil(base.train.epochs / 5) if _PRUNE.value else None,
        fingerprint=fingerprint(base, folds=_FOLDS.value),
        heartbeat=_HEARTBEAT.value,
    )
    with database_errors_explained():
        try:
            run_trials(search, study, lambda: report.write_table(search, study), _MAX_MINUTES.value)
        except Preempted:
            if study.finished():
                print(report.table(study, list(space.domains)), flush=True)
            raise
        print(report.summarize(search, study, config_flags.get_config_filename(flags.FLAGS["config"])))


def _trials(space: Space) -> int:
    """Number of trials to run: of a grid, no more than it has points."""
    if _STRATEGY.value == "grid":
        points = len(space.grid())
        trials: int = min(_TRIALS.value or points, points)
        print(f"a grid of {points} points{'' if trials == points else f', of which the first {trials} are run'}", flush=True)
        return trials
    if _TRIALS.value is None:
        raise UserError(f"--trials: --strategy={_STRATEGY.value} needs a number of trials")
    return int(_TRIALS.value)


if __name__ == "__main__":
    app.run(main)
