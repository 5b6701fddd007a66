"""Writes a run's network to one file: python launch/export.py --run=runs/fast --format=safetensors."""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start()  # before what takes long to import

from pathlib import Path
from typing import Any

from absl import flags

from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.files.folder import make_folder
from cifar_flax.runtime import app

_RUN = flags.DEFINE_string("run", None, "run directory", required=True)
_FORMAT = flags.DEFINE_enum("format", "safetensors", ["safetensors", "stablehlo", "onnx"], "of the file")
_WEIGHTS = flags.DEFINE_enum("weights", "ema", ["ema", "raw"], "ema: averaged weights where the run kept an average")
_OUTPUT = flags.DEFINE_string("output", None, "the file; default: RUN/export/NAME.FORMAT")


def main() -> None:
    """Exports the best checkpoint, with the test scores of the run where it has been evaluated."""
    from cifar_flax.export.formats import Format, export  # after the flags are checked: a typo should not wait for JAX
    from cifar_flax.pretrained.weights import read_weights
    from cifar_flax.run import Run
    from cifar_flax.runtime import compilation

    compilation.enable_persistent_cache()
    run, how = Run.open(_RUN.value), Format(_FORMAT.value)
    path = Path(_OUTPUT.value or run.workdir / "export" / f"{run.workdir.name}.{how}")
    if not path.parent.is_dir() and _OUTPUT.value:
        raise UserError(f"--output={path}: no such folder as {path.parent}")
    make_folder(path.parent)
    network = run.network("best", ema=_WEIGHTS.value == "ema")
    about = {"checkpoint": network.step, "ema": _WEIGHTS.value == "ema" or not run.has_ema, "tta": "none"}
    network.figures = _figures(run.workdir / "report" / "test.json", about)
    if network.figures and how is Format.SAFETENSORS:
        run.dataset("test")  # where it cannot be scored again, no file should say that it was
    export(network, how, path)
    if network.figures and how is Format.SAFETENSORS:  # its kernels are rounded to float16, which may change a prediction
        network.figures = {"split": "test", **_numbers(read_weights(path).evaluate("test"))}
        export(network, how, path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _figures(report: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The test scores in single numbers, of this very checkpoint; empty where it was not evaluated."""
    try:
        scores = read_checksummed(report) if report.exists() else {}
    except ValueError as e:
        raise UserError(f"{report}: damaged: {e}; evaluate the run again") from None
    return {"split": "test", **_numbers(scores)} if about.items() <= scores.items() else {}


def _numbers(scores: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, int | float) and name != "checkpoint"}


if __name__ == "__main__":
    app.run(main)
