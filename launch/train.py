"""Trains an experiment, or goes on with it: python launch/train.py --config=configs/wide.py [--config.FIELD=VALUE ...]."""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start(large_pages=True)  # before what takes long to import

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging

from cifar_flax.config import Config, DataConfig
from cifar_flax.config.effects import without_effect
from cifar_flax.config.flags import Experiment, define_config_flag, experiment_from_flags
from cifar_flax.errors import Diverged
from cifar_flax.runtime import app, distributed
from cifar_flax.runtime.command_line import typed
from cifar_flax.training.seed_folders import seed_folders

_WORKDIR = flags.DEFINE_string("workdir", None, "run directory; default: runs/NAME of the config, its variant and overrides")
_RESTART = flags.DEFINE_bool("restart", False, "begin again, keeping the run that is there beside")
_PROFILE = flags.DEFINE_bool("profile", False, "record a trace of a few steps for TensorBoard and Perfetto")
_LAYERS = flags.DEFINE_bool("layers", False, "print the table of layers, with shapes, parameters and operations")
_MAX_MINUTES = flags.DEFINE_float("max_minutes", None, "save and end with exit code 75 after so long", lower_bound=0)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where several hosts train one run")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "how many processes they are", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "which of them this one is, from 0", lower_bound=0)
define_config_flag()


def main() -> None:
    """Trains what the flags ask for."""
    experiment = _experiment()
    seeds = experiment.config.train.num_seeds
    workdir = Path(_WORKDIR.value or Path("runs") / experiment.name)
    hosts = distributed.find_cluster(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, os.environ)

    def train() -> None:
        if hosts is not None:
            distributed.initialize_distributed(hosts)
        # After the flags are checked: a typo should not wait for JAX.
        from cifar_flax.runtime.compilation_cache import enable_persistent_cache

        enable_persistent_cache()
        if seeds > 1:
            from cifar_flax.training.seeds import train_seeds

            train_seeds(experiment.config, workdir, _RESTART.value, _MAX_MINUTES.value, _PROFILE.value, _LAYERS.value)
        else:
            from cifar_flax.training import loop

            loop.train(
                experiment.config,
                workdir,
                _RESTART.value,
                profile=_PROFILE.value,
                max_minutes=_MAX_MINUTES.value,
                layers=_LAYERS.value,
            )

    if hosts is None:
        try:
            train()
        except Diverged as e:
            _summarize(experiment.config, e.ended)
            raise
    elif distributed.is_worker():
        distributed.run_worker(lambda: app.report(train))
        return
    elif not distributed.supervise(_RESTART.value):
        return
    runs = seed_folders(workdir) if seeds > 1 else [workdir]
    _summarize(experiment.config, runs)
    split = _split_to_score(experiment.config.data, runs[0])
    print(f"evaluate it: {typed('evaluate')} --run={shlex.quote(str(workdir))}{split}")


def _experiment() -> Experiment:
    """The experiment that the flags ask for, with a warning on each flag without effect."""
    experiment = experiment_from_flags()
    if not distributed.is_worker():  # the process that watches it has said so
        for line in without_effect(experiment.config, experiment.overridden):
            logging.warning(line)
    return experiment


def _summarize(config: Config, runs: Sequence[Path]) -> None:
    """Gives the trackers and TensorBoard their summaries of the runs that have ended."""
    if config.log.writers and runs:
        from cifar_flax.analysis.report.summaries import closing_pictures  # imports matplotlib
        from cifar_flax.training.writers.summary import write_summary

        for folder in runs:
            write_summary(folder, closing_pictures)


def _split_to_score(data: DataConfig, run: Path) -> str:
    """The flag of evaluate for a run whose data set had no test split when it began; empty where there was one."""
    from cifar_flax.data.preprocessing import Preprocessing

    if Preprocessing.read(run / "dataset.json").test_hashes:
        return ""
    return " --split=validation" if data.validates else " --split=train"


if __name__ == "__main__":
    app.run(main)
