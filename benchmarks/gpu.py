"""All that is measured on a GPU, by one command of at most nine minutes on a bare machine.

    python benchmarks/gpu.py --archive=cifar100.npz [--output=runs/gpu] [--parts=commands,recipe,steps] [--dry_run]

It needs this checkout with its dependencies, CIFAR-100 (prepared by TFDS, or an archive that launch/import_data.py takes) and,
for `steps`, PyTorch. Parts are done in their order, and OUTPUT/gpu.json and gpu.md are written after each measurement; a part
that fails is named, with the end of OUTPUT/log.txt, and the next begins. The same command goes on with parts that are missing,
with the same code on the same card. What is compiled is compiled side by side, and timed one at a time; kernels that XLA and
cuDNN choose by timing them are chosen while other networks are compiled.

- commands: launch/train.py with configs/fast.py:published, with nothing compiled and then, by another seed, with all on disk;
- recipe: a step of that training as it is dispatched, at each resolution, beside whose sum its epochs stand;
- seeds: three more, then five in one program, each scored on test; five of three_conv in one program beside one of it;
- resume: a run that is killed by SIGKILL and goes on ends with the same bits, with deterministic operations;
- steps: of six networks, beside PyTorch on the identical network, bfloat16, channels_last; of both a step without augmentation,
  with SGD where PyTorch has no such optimizer, as `workload.common_recipe` has it;
- tests: those of networks, optimizers, augmentation and the step, with products in float32, with which they compare;
- autotuning: the first command again, with nothing compiled, at lower levels of XLA's search for the fastest kernels.

--dry_run goes through all of it with tiny networks and images, on a CPU too; its figures mean nothing.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import gpu_parts
from benchmarks.gpu_parts import PARTS
from benchmarks.gpu_table import table
from benchmarks.machine import Machine, OutOfTime
from cifar_flax.errors import RunFailed, UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.runtime import app

IMPORTED = "cifar100_for_gpu"  # the name of what --archive gives: cifar100 itself is that of the official archives
_OUTPUT = flags.DEFINE_string("output", "runs/gpu", "folder for runs, gpu.json and gpu.md")
_ARCHIVE = flags.DEFINE_string("archive", None, "CIFAR-100 as launch/import_data.py takes it; else it is looked for")
_PARTS = flags.DEFINE_list("parts", list(PARTS), f"of {', '.join(PARTS)}")
_MINUTES = flags.DEFINE_float("minutes", 9, "what has not begun by then is left out, what runs is ended", lower_bound=0)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "tiny networks and images: whether all of it runs here")


def main() -> None:
    """Does the parts that are missing, and prints the table."""
    if wrong := [part for part in _PARTS.value if part not in PARTS]:
        raise UserError(f"--parts: no {wrong[0]!r}; expected some of {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which ends the command that runs too
    output = Path(_OUTPUT.value).absolute()  # commands run in the checkout, wherever this one does
    output.mkdir(parents=True, exist_ok=True)
    path = output / "gpu.json"
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if results.get("dry_run", _DRY_RUN.value) != _DRY_RUN.value:
        raise UserError(f"{path}: one of a dry run and a measurement, and this is the other; give another folder by --output")
    _check_environment(results, path)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # processes share the device; this one takes it to compare parameters
    machine = Machine(output, _MINUTES.value, IMPORTED if _ARCHIVE.value else "cifar100", _DRY_RUN.value)
    if _ARCHIVE.value and not machine.dry:
        _import(machine, Path(_ARCHIVE.value).absolute())
    failed = _do_parts(machine, results)
    print(table(results))
    if failed:
        raise RunFailed(f"failed: {', '.join(failed)}; see {output}/log.txt")


def _import(machine: Machine, archive: Path) -> None:
    try:
        machine.run("launch/import_data.py", f"--name={IMPORTED}", f"--archive={archive}")
    except RunFailed as e:
        raise RunFailed("\n".join((str(e), *machine.end_of_log(5)))) from None


def _check_environment(results: dict[str, Any], path: Path) -> None:
    """Notes on what is measured, or checks that it is what the earlier parts were measured on."""
    now = gpu_parts.environment()
    if not _DRY_RUN.value and now["backend"] == "cpu":
        raise UserError(f"JAX finds no GPU here, only {', '.join(now['devices'])}; to try all parts on a CPU: --dry_run")
    before = results.setdefault("environment", now)
    if changed := [name for name in ("git_commit", "code", "devices") if before.get(name) != now[name]]:
        name = changed[0]
        raise UserError(
            f"{path}: parts of it are of {name} {before.get(name)}, and now it is {now[name]}; give another folder by --output"
        )


def _do_parts(machine: Machine, results: dict[str, Any]) -> list[str]:
    """Fills in what is missing, and writes it; returns the parts that failed."""
    failed = []
    for part in PARTS:
        if part in _PARTS.value and "seconds" not in results.get(part, {}):
            try:
                for figures in _measured(part, machine):
                    results[part] = figures
                    _write(machine.output, {**results, "dry_run": machine.dry})
                print(f"{part}: {results[part]['seconds']:.0f} s", flush=True)
            except OutOfTime:
                print(f"{part}: not complete, {_MINUTES.value:g} minutes are over", flush=True)
                break
            except Exception as e:  # of whatever library: the other parts are measured
                failed.append(part)
                print("\n".join((f"{part}: {str(e) or type(e).__name__}", *machine.end_of_log(20))), flush=True)
    return failed


def _measured(part: str, machine: Machine) -> Iterator[dict[str, Any]]:
    """The figures of a part after each measurement; those that are complete have `seconds`."""
    begin, figures = time.monotonic(), {}
    for figures in PARTS[part](machine):
        yield figures
    yield {**figures, "seconds": time.monotonic() - begin}


def _write(output: Path, results: Mapping[str, Any]) -> None:
    write_text(output / "gpu.json", json.dumps(results, indent=1) + "\n")
    write_text(output / "gpu.md", table(results) + "\n")


if __name__ == "__main__":
    app.run(main)
