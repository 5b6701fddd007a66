"""Writes a network for other programs: python launch/export.py --run=runs/fast --format=safetensors [--dtype=bfloat16].

The figures in it are of the weights and the temperature as the file has them: where its dtype changes a value, or the network
was calibrated after it was evaluated, they are measured again.
"""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start()  # before what takes long to import

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from cifar_flax.errors import UserError
from cifar_flax.files.folder import make_folder
from cifar_flax.runtime import app
from cifar_flax.runtime.command_line import NETWORK
from cifar_flax.runtime.flag_values import STORED, Format, KernelDtype

if TYPE_CHECKING:
    from cifar_flax.network import Network

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
    from cifar_flax.export.figures import as_exported  # after the flags are checked: a typo should not wait for JAX
    from cifar_flax.export.formats import export
    from cifar_flax.pretrained import is_bundled
    from cifar_flax.run import BareRun, open_run
    from cifar_flax.runtime.compilation_cache import enable_persistent_cache

    enable_persistent_cache()
    run, how, dtype = open_run(_RUN.value), Format(_FORMAT.value), KernelDtype(_DTYPE.value or KernelDtype.FLOAT16)
    bare = isinstance(run, BareRun)
    network = run.network("best", ema=_WEIGHTS.value == "ema")
    raw = run.has_ema and _WEIGHTS.value == "raw"  # other weights than those of the usual file
    path = _output(run.workdir, network.file_stem + "-raw" * raw, bare)
    network = as_exported(run, network, how, dtype, ema=not raw)
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


def _described(network: "Network", how: Format, dtype: KernelDtype) -> str:
    """The dtype, and the accuracy that the file states of itself."""
    figures, computes = network.figures, f"kernels in {dtype}" if how in STORED else "computes in float32"
    if how is Format.STABLEHLO:
        return f"{computes}, without figures"
    if not {"top1", "n", "split"} <= figures.keys():
        return f"{computes}, not measured (evaluate first)"
    return f"{computes}, with which top-1 is {figures['top1']:.2%} on {figures['n']:,} {figures['split']} images"


def _size(path: Path) -> str:
    count = sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


if __name__ == "__main__":
    app.run(main)
