"""Trains an experiment, or goes on with it: python launch/train.py --config=configs/wide.py [--config.FIELD=VALUE ...]."""

import sys
from pathlib import Path

from absl import flags

from cifar_flax import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "run directory; default: runs/NAME of the config, its variant and overrides")
_RESTART = flags.DEFINE_bool("restart", False, "begin again, keeping the run that is there beside")
_PROFILE = flags.DEFINE_bool("profile", False, "record a trace of a few steps for TensorBoard and Perfetto")
cli.define_config_flag()


def main() -> None:
    """Trains what the flags ask for."""
    experiment = cli.experiment_from_flags()
    workdir = Path(_WORKDIR.value or Path("runs") / experiment.name)
    from cifar_flax.training.loop import train  # after the flags are checked: a typo should not wait for JAX

    train(experiment.config, workdir, _RESTART.value, profile=_PROFILE.value)
    if experiment.config.log.tensorboard:
        from cifar_flax.analysis.board import write_board  # matplotlib only where pictures are drawn

        write_board(workdir)
    print(f"evaluate it: {Path(sys.executable).name} launch/evaluate.py --run={workdir} --split=test")


if __name__ == "__main__":
    cli.run(main)
