"""All that is measured on a GPU, by one command of at most nine minutes on a bare machine.

    python benchmarks/gpu.py --archive=cifar100.npz [--output=gpu] [--parts=commands,seeds,steps,resume,tests] [--dry_run]

It needs this checkout with its dependencies, CIFAR-100 (prepared by TFDS, or an archive that launch/import_data.py takes) and,
for `steps`, PyTorch. Parts are done in their order and written to OUTPUT/gpu.json as each ends; the same command goes on with
those that are missing. What is compiled is compiled side by side, and timed one at a time.

- commands: launch/train.py with configs/fast.py:published, with nothing compiled and then, by another seed, with all on disk;
- seeds: three more, then five in one program, each scored on test; five of three_conv in one program beside one of it;
- steps: of six networks, beside PyTorch on the identical network, bfloat16, channels_last;
- resume: a run that is killed by SIGKILL and goes on ends with the same bits, with deterministic operations;
- tests: those of networks, optimizers, augmentation and the step.

--dry_run goes through all of it with tiny networks and images, on a CPU too; its figures mean nothing.
"""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.gpu_table import table
from benchmarks.machine import ROOT, Machine, OutOfTime
from benchmarks.timing import in_turns
from benchmarks.tiny import shrink
from benchmarks.workers import Worker
from benchmarks.workload import common_recipe
from cifar_flax.config import Config
from cifar_flax.config.flags import load_config
from cifar_flax.errors import UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.runtime import app

PARTS = ("commands", "seeds", "steps", "resume", "tests")
_OUTPUT = flags.DEFINE_string("output", "gpu", "folder for runs, gpu.json and gpu.md")
_ARCHIVE = flags.DEFINE_string("archive", None, "CIFAR-100 as launch/import_data.py takes it; else it is looked for")
_PARTS = flags.DEFINE_list("parts", list(PARTS), f"of {', '.join(PARTS)}")
_MINUTES = flags.DEFINE_float("minutes", 9, "what has not begun by then is left out, what runs is ended", lower_bound=0)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "tiny networks and images: whether all of it runs here")

NETWORKS = ("fast:published", "wide", "three_conv", "vgg_bn", "resnet18", "wrn_28_10")
CHUNK, ROUNDS = 32, 3  # updates a dispatch, as on accelerators by default; times that each variant is timed
SEEDS = 5
DRY_NETWORKS, DRY_SEEDS = ("fast:published", "three_conv", "resnet18"), 3  # one of each kind
IMPORTED = "cifar100_for_gpu"  # the name of what --archive gives: cifar100 itself is that of the official archives
TESTS = ("tests/models", "tests/optim", "tests/augment", "tests/training/test_step.py")
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def main() -> None:
    """Does the parts that are missing, and prints the table."""
    if wrong := [part for part in _PARTS.value if part not in PARTS]:
        raise UserError(f"--parts: no {wrong[0]!r}; expected some of {', '.join(PARTS)}")
    output = Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    path = output / "gpu.json"
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if results.get("dry_run", _DRY_RUN.value) != _DRY_RUN.value:
        raise UserError(f"{path}: one of a dry run and a measurement, and this is the other; give another folder by --output")
    machine = Machine(output, _MINUTES.value, IMPORTED if _ARCHIVE.value else "cifar100", _DRY_RUN.value)
    if _ARCHIVE.value and not machine.dry:
        machine.run("launch/import_data.py", f"--name={IMPORTED}", f"--archive={_ARCHIVE.value}")
    measure: Mapping[str, Callable[[Machine], Any]] = {
        "commands": commands,
        "seeds": seeds,
        "steps": steps,
        "resume": resume,
        "tests": tests,
    }
    for part in PARTS:
        if part in _PARTS.value and part not in results:
            begin = time.monotonic()
            try:
                figures = measure[part](machine)
            except OutOfTime:
                print(f"{part}: left out, {_MINUTES.value:g} minutes are over", flush=True)
                break
            results[part] = {**figures, "seconds": time.monotonic() - begin}
            write_text(path, json.dumps({**results, "dry_run": machine.dry}, indent=1) + "\n")
            print(f"{part}: {results[part]['seconds']:.0f} s", flush=True)
    text = table(results)
    write_text(output / "gpu.md", text + "\n")
    print(text)


def commands(machine: Machine) -> dict[str, Any]:
    """The speed run from the shell, with nothing compiled and with all on disk."""
    cold = machine.train("seed0", "fast.py:published")
    warm = machine.train("seed1", "fast.py:published", "--config.seed=1")
    return {"cold": cold, "warm": warm, "test_top1": machine.test_top1("seed0", "seed1")}


def seeds(machine: Machine) -> dict[str, Any]:
    """Further seeds one after another, five in one program, and what five of a small network cost beside one."""
    count = DRY_SEEDS if machine.dry else SEEDS
    alone = {
        f"seed{seed}": machine.train(f"seed{seed}", "fast.py:published", f"--config.seed={seed}") for seed in range(2, count)
    }
    many = (f"--config.train.num_seeds={count}", "--config.train.vmap_seeds=true")
    vmapped = machine.train("vmapped", "fast.py:published", *many)
    small = {
        "one": machine.train("three_conv", "three_conv.py", "--config.train.epochs=2"),
        "five": machine.train("three_conv_vmapped", "three_conv.py", "--config.train.epochs=2", *many),
    }
    one, five = (times["training"] - times["compilation"] for times in small.values())
    return {
        "alone": alone,
        "test_top1": machine.test_top1(*alone),
        "vmapped": {**vmapped, "test_top1": machine.test_top1("vmapped")},
        "three_conv": {**small, "ratio": five / one},
    }


def steps(machine: Machine) -> dict[str, Any]:
    """Seconds a step of each network, ours in chunks and one by one, and PyTorch's."""
    settings = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    frameworks = {"jax_device": True, "torch_device": _has_torch()}
    names = DRY_NETWORKS if machine.dry else NETWORKS
    configs = {name: (tiny if machine.dry else common_recipe)(_config(name)) for name in names}
    seconds: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        workers = {
            (name, module): stack.enter_context(Worker(module, settings))
            for name in names
            for module, installed in frameworks.items()
            if installed
        }
        first = {module: worker for (name, module), worker in workers.items() if name == names[0]}
        environment = {module: worker.call("environment") for module, worker in first.items()}

        def build(name: str) -> tuple[dict[str, Worker], list[str]]:
            config = configs[name]
            workload = workers[name, "jax_device"].call("draw", config, config.train.batch_size)
            made: dict[str, Worker] = {}
            remarks: list[str] = []
            for module in frameworks:
                if worker := workers.get((name, module)):
                    variants, more = worker.build(workload, chunk(name, machine.dry))
                    made |= dict.fromkeys(variants, worker)
                    remarks += [f"{name}: {line}" for line in more]
            return made, remarks

        with ThreadPoolExecutor(len(names)) as pool:
            built = dict(zip(names, pool.map(build, names), strict=True))
        machine.seconds_left()
        for name, (variants, _) in built.items():
            measured = in_turns(
                {variant: functools.partial(worker.time_step, variant, 1) for variant, worker in variants.items()}, ROUNDS
            )
            made = {variant: 1 if variant == "ours_single" else chunk(name, machine.dry) for variant in variants}
            seconds[name] = {variant: [value / made[variant] for value in values] for variant, values in measured.items()}
    remarks = [line for _, lines in built.values() for line in lines]
    batch_sizes = {name: config.train.batch_size for name, config in configs.items()}
    return {"seconds_per_step": seconds, "batch_sizes": batch_sizes, "remarks": remarks, "environment": environment}


def resume(machine: Machine) -> dict[str, Any]:
    """Whether a run that is killed within an epoch and goes on ends with the bits of one that is not."""
    arguments = ("--config.train.epochs=2", "--config.checkpoint.every_steps=20", "--config.seed=7")
    environment = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()} if _has_gpu() else {}
    machine.train("whole", "three_conv.py", *arguments, **environment)
    workdir = machine.output / "killed"
    given = (*machine.config("three_conv.py"), *arguments, f"--workdir={workdir}")
    process = machine.start("launch/train.py", *given, "--restart", **environment)
    while process.poll() is None and not _steps(workdir):
        time.sleep(0.02)
        machine.seconds_left()
    process.kill()
    process.wait()
    at = max(_steps(workdir), default=0)
    machine.train_on("killed", "three_conv.py", *arguments, **environment)
    whole, killed = (_parameters(machine.output / name) for name in ("whole", "killed"))
    equal = whole.keys() == killed.keys() and all(np.array_equal(whole[path], killed[path]) for path in whole)
    return {"killed_after_step": at, "bitwise_equal": equal}


def tests(machine: Machine) -> dict[str, Any]:
    """The fast tests of what computes on the device."""
    chosen = ("tests/optim/test_norms.py",) if machine.dry else TESTS
    process = machine.start("-m", "pytest", "-q", "-m", "not slow", *chosen)
    machine.wait(process)
    lines = (machine.output / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    return {"exit_code": process.returncode, "summary": next((line for line in reversed(lines) if line.strip()), "")}


def tiny(config: Config) -> Config:
    """The same kind of network and step, too small to measure."""
    config = shrink(common_recipe(config))
    config.train.batch_size = 4
    return config


def chunk(name: str, dry: bool) -> int:
    """Updates a dispatch; of the largest network fewer, which take as long."""
    return 2 if dry else 8 if name == "wrn_28_10" else CHUNK


def _config(name: str) -> Config:
    stem, _, variant = name.partition(":")
    return load_config(str(ROOT / "configs" / f"{stem}.py") + (f":{variant}" if variant else ""))


def _steps(workdir: Path) -> list[int]:
    """The checkpoints of a run."""
    return [int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal()]


def _parameters(workdir: Path) -> dict[str, np.ndarray]:
    from flax.traverse_util import flatten_dict

    from cifar_flax.run import Run  # imports JAX, which takes the device

    return {path: np.asarray(x) for path, x in flatten_dict(Run.open(workdir).params("latest"), sep="/").items()}


def _has_torch() -> bool:
    return subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode == 0


@functools.cache
def _has_gpu() -> bool:
    code = "import jax; raise SystemExit(jax.default_backend() == 'cpu')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    app.run(main)
