"""Writes a network for other programs: python launch/export.py --run=runs/fast --format=safetensors [--dtype=bfloat16].

The figures in it are of the weights and the temperature as the file has them: where its dtype changes a value, or the network
was calibrated after it was evaluated, they are measured again.
"""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start()  # before what takes long to import

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.files.folder import make_folder
from cifar_flax.runtime import app
from cifar_flax.runtime.command_line import NETWORK
from cifar_flax.runtime.flag_values import Format, KernelDtype

if TYPE_CHECKING:
    from cifar_flax.network import Network
    from cifar_flax.run import Run

STORED = (Format.SAFETENSORS, Format.HUGGINGFACE)  # formats that are weights; the others are computations, in float32
BUNDLED_LICENSE = "apache-2.0"  # of what comes with the package

_RUN = flags.DEFINE_string("run", None, NETWORK, required=True)
_FORMAT = flags.DEFINE_enum("format", "safetensors", list(Format), "a file, or for huggingface a folder with a model card")
_DTYPE = flags.DEFINE_enum("dtype", None, list(KernelDtype), f"dtype of kernels in {' and '.join(STORED)}; default: float16")
_LICENSE = flags.DEFINE_string("license", None, "of the weights, for the model card, as the Hub names it: apache-2.0, mit, ...")
_WEIGHTS = flags.DEFINE_enum("weights", "ema", ["ema", "raw"], "ema: averaged weights where the run kept an average")
_OUTPUT = flags.DEFINE_string(
    "output", None, "the file or folder; default: NAME.FORMAT or NAME-huggingface, in RUN/export, or here where there is no run"
)


def main() -> None:
    """Exports the best checkpoint, or the only weights there are, with the test scores where there are some."""
    if _DTYPE.value and _FORMAT.value not in STORED:
        raise UserError(f"--dtype={_DTYPE.value}: {_FORMAT.value} computes in float32; --dtype is for {' and '.join(STORED)}")
    if _LICENSE.value and _FORMAT.value != "huggingface":
        raise UserError("--license: only --format=huggingface has a model card to state it in")
    from cifar_flax.export.formats import export  # after the flags are checked: a typo should not wait for JAX
    from cifar_flax.pretrained import is_bundled
    from cifar_flax.run import BareRun, open_run
    from cifar_flax.runtime.compilation_cache import enable_persistent_cache

    enable_persistent_cache()
    run, how, dtype = open_run(_RUN.value), Format(_FORMAT.value), KernelDtype(_DTYPE.value or KernelDtype.FLOAT16)
    bare = isinstance(run, BareRun)
    network = run.network("best", ema=_WEIGHTS.value == "ema")
    raw = run.has_ema and _WEIGHTS.value == "raw"  # other weights than those of the usual file
    path = _output(run.workdir, network.file_stem + "-raw" * raw, bare)
    if not bare:
        about = {"checkpoint": network.step, "ema": not raw, "tta": "none"}
        network.figures = _figures(run.workdir / "report" / ("test_raw.json" if raw else "test.json"), about)
    network = _as_exported(run, network, how, dtype)
    export(network, how, path, dtype, _LICENSE.value or (BUNDLED_LICENSE if is_bundled(_RUN.value) else None))
    print(f"{path}: {_described(network, how, dtype)}, {_size(path)}")
    if how is Format.HUGGINGFACE:
        print(f"hf upload USER/NAME {path}  puts it on the Hub, from where --run=hf:USER/NAME takes it")


def _output(workdir: Path, stem: str, bare: bool) -> Path:
    """--output, or the default, whose folder is made."""
    file = f"{stem}-huggingface" if _FORMAT.value == "huggingface" else f"{stem}.{_FORMAT.value}"
    if not _OUTPUT.value and not bare:
        make_folder(workdir / "export")
        return workdir / "export" / file
    path = Path(_OUTPUT.value or file)
    if path.suffix == ".safetensors" and _FORMAT.value != "safetensors":
        raise UserError(f"--output={path}: a name by which --run knows weights, and {_FORMAT.value} is no such file")
    if _FORMAT.value == "safetensors" and path.suffix != ".safetensors":
        raise UserError(f"--output={path}: expected a name that ends in .safetensors, by which --run knows such a file")
    if not path.parent.is_dir():
        raise UserError(f"--output={path}: no such folder as {path.parent}")
    if path.exists() and workdir.exists() and path.samefile(workdir):
        raise UserError(f"{path}: is what would be exported; give another place by --output")
    return path


def _as_exported(run: "Run", network: "Network", how: Format, dtype: KernelDtype) -> "Network":
    """The network as the file has it, with figures that are its own."""
    from cifar_flax.pretrained.weights import as_stored

    exported = as_stored(network, dtype) if how in STORED else network
    figures, calibrated = network.figures, network.figures.get("temperature", network.temperature) != network.temperature
    if figures and (exported is not network or calibrated) and how != "stablehlo":  # which has none
        _check_measurable(run, calibrated)
        exported.figures = {"split": "test", **_numbers(exported.evaluate("test"))}
    return exported


def _check_measurable(run: "Run", calibrated: bool) -> None:
    """Refuses to export where figures would not be those of the file, and cannot be measured again.

    Raises:
      UserError: the test images are not here, or not those of the run.
    """
    try:
        run.dataset("test")
    except UserError as e:
        why = "it was calibrated after it was evaluated" if calibrated else "its kernels would be rounded to another dtype"
        kept = "" if calibrated else ", or give --dtype=float32, which rounds nothing"
        problem = str(e).splitlines()[0].partition(". ")[0].rstrip(":.")
        raise UserError(f"{why}, so that its figures are to be measured again: {problem}; bring the data here{kept}") from None


def _figures(report: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The test scores in single numbers, of this very checkpoint; empty where it was not evaluated."""
    from cifar_flax.pretrained.weights import check_figures

    try:
        scores = read_checksummed(report) if report.exists() else {}
    except ValueError as e:
        raise UserError(f"{report}: damaged: {e}; evaluate the run again") from None
    figures = {"split": "test", **_numbers(scores)} if about.items() <= scores.items() else {}
    try:
        check_figures(figures)
    except UserError as e:
        raise UserError(f"{report}: {e}") from None
    return figures


def _numbers(scores: dict[str, Any]) -> dict[str, float]:
    """The figures that a file can state: of a network that has diverged some are not finite."""
    numbers = {name: value for name, value in scores.items() if type(value) in (int, float) and name != "checkpoint"}
    return {name: value for name, value in numbers.items() if type(value) is int or math.isfinite(value)}


def _described(network: "Network", how: Format, dtype: KernelDtype) -> str:
    """The dtype, and the accuracy that the file states of itself."""
    figures, computes = network.figures, f"kernels in {dtype}" if how in STORED else "computes in float32"
    if how == "stablehlo":
        return f"{computes}, without figures"
    if not {"top1", "n", "split"} <= figures.keys():
        return f"{computes}, not measured (evaluate first)"
    return f"{computes}, with which top-1 is {figures['top1']:.2%} on {figures['n']:,} {figures['split']} images"


def _size(path: Path) -> str:
    count = sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


if __name__ == "__main__":
    app.run(main)
