"""Fits the percentages of a run: python launch/calibrate.py --run=runs/fast --validated=runs/fast-select.

A run that holds out validation images is calibrated as it trains. One that trains on all images takes the temperature from a
run of the same recipe that held some out: `python launch/train.py --config=fast:select --workdir=runs/fast-select`.
"""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start()  # before what takes long to import

from pathlib import Path

from absl import flags

from cifar_flax.errors import UserError
from cifar_flax.runtime import app
from cifar_flax.training.seed_folders import holds_seeds, seed_folders

_RUN = flags.DEFINE_string("run", None, "run directory", required=True)
_VALIDATED = flags.DEFINE_string(
    "validated", None, "run of the same recipe that held out validation images; default: RUN itself"
)


def main() -> None:
    """Writes RUN/calibration.json, of several seeds one in the folder of each."""
    from cifar_flax.pretrained import load_weights  # after the flags are checked: a typo should not wait for JAX
    from cifar_flax.runtime.compilation_cache import enable_persistent_cache

    enable_persistent_cache()
    if (network := load_weights(_RUN.value)) is not None:
        source = network.calibration.source
        has = f"have a temperature of {network.temperature:.3f}, fitted to {source}" if source else "have none"
        raise UserError(f"--run={_RUN.value}: weights keep the temperature that they were exported with, and these {has}")
    folder = Path(_RUN.value)
    for workdir in seed_folders(folder) if holds_seeds(folder) else [folder]:
        _calibrate(workdir)


def _calibrate(workdir: Path) -> None:
    from cifar_flax.analysis.calibrate import fit_to_validation, warn_of_unfinished
    from cifar_flax.run import Run
    from cifar_flax.training.calibration import without_damaged, write_calibration

    run = Run.open(workdir)
    with without_damaged(run.workdir):
        validated = Run.open(_VALIDATED.value) if _VALIDATED.value else run
        warn_of_unfinished(validated)
        averaged = fit_to_validation(run, validated)
        raw = fit_to_validation(run, validated, ema=False) if run.has_ema else averaged
    path = write_calibration(run.workdir, run.step(), averaged.calibration, raw.calibration)
    temperature, source = averaged.calibration.temperature, averaged.calibration.source
    print(f"temperature {temperature:.3f}, fitted to {source}")
    print(f"calibration error on these {averaged.ece_before:.2%}, with the temperature {averaged.ece_after:.2%}\n-> {path}")


if __name__ == "__main__":
    app.run(main)
