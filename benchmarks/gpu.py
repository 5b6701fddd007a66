"""All that is measured on a GPU, by one command of at most nine minutes on a bare machine.

    python benchmarks/gpu.py --archive=cifar100.npz [--output=runs/gpu] [--parts=commands,steps,seeds,resume,tests] [--dry_run]

It needs this checkout with its dependencies, CIFAR-100 (prepared by TFDS, or an archive that launch/import_data.py takes) and,
for `steps`, PyTorch. Parts are done in their order, and OUTPUT/gpu.json and gpu.md are written after each measurement; a part
that fails is named, with the end of OUTPUT/log.txt, and the next begins. The same command goes on with parts that are missing,
at the same commit on the same card. What is compiled is compiled side by side, and timed one at a time; kernels that XLA and
cuDNN choose by timing them are chosen while other networks are compiled.

- commands: launch/train.py with configs/fast.py:published, with nothing compiled and then, by another seed, with all on disk;
- steps: of six networks, beside PyTorch on the identical network, bfloat16, channels_last; of both a step without augmentation,
  with SGD where PyTorch has no such optimizer, as `workload.common_recipe` has it;
- seeds: three more, then five in one program, each scored on test; five of three_conv in one program beside one of it;
- resume: a run that is killed by SIGKILL and goes on ends with the same bits, with deterministic operations;
- tests: those of networks, optimizers, augmentation and the step, with products in float32, with which they compare.

--dry_run goes through all of it with tiny networks and images, on a CPU too; its figures mean nothing.
"""

import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.gpu_table import table
from benchmarks.machine import ROOT, Machine, OutOfTime, with_checkout
from benchmarks.timing import in_turns
from benchmarks.tiny import shrink
from benchmarks.workers import Worker
from benchmarks.workload import common_recipe
from cifar_flax.config import Config
from cifar_flax.config.flags import load_config
from cifar_flax.errors import CifarFlaxError, RunFailed, UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.runtime import app
from cifar_flax.training.checkpoint_files import saved_steps

NETWORKS = ("fast:published", "wide", "three_conv", "vgg_bn", "resnet18", "wrn_28_10")
CHUNK = 32  # updates a dispatch, as on accelerators by default
ROUNDS, REPEATS = 3, 5  # times that each variant is timed, and chunks that it makes each time
SEEDS = 5
DRY_NETWORKS, DRY_SEEDS = ("fast:published", "three_conv", "resnet18"), 3  # one of each kind
IMPORTED = "cifar100_for_gpu"  # the name of what --archive gives: cifar100 itself is that of the official archives
TESTS = ("tests/models", "tests/optim", "tests/augment", "tests/training/test_step.py")
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
TIMING_SECONDS = 60  # kept for timing while networks are compiled
LATE = "not compiled in time"
ENVIRONMENT = """
import json
from cifar_flax.training.run_environment import describe_environment
print(json.dumps(describe_environment()))
"""


def commands(machine: Machine) -> Iterator[dict[str, Any]]:
    """The speed run from the shell, with nothing compiled and with all on disk."""
    shutil.rmtree(machine.programs, ignore_errors=True)
    figures: dict[str, Any] = {"alone": {}}
    for seed, name in enumerate(("seed0", "seed1")):
        figures["alone"][name] = machine.train(name, "fast.py:published", f"--config.seed={seed}")
        yield figures
    yield {**figures, "test_top1": machine.test_top1("seed0", "seed1")}


def resume(machine: Machine) -> Iterator[dict[str, Any]]:
    """Whether a run that is killed within an epoch and goes on ends with the bits of one that is not.

    Raises:
      RunFailed: it had ended before it was killed, or before it had saved.
    """
    epochs = 2 if machine.dry else 20
    arguments = (f"--config.train.epochs={epochs}", "--config.checkpoint.every_steps=20", "--config.seed=7")
    environment = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()} if _has_gpu() else {}
    machine.train("whole", "three_conv.py", *arguments, **environment)
    steps = max(saved_steps(machine.output / "whole"))
    workdir = machine.output / "killed"
    given = (*machine.config("three_conv.py"), *arguments, f"--workdir={workdir}")
    process = machine.start("launch/train.py", *given, "--restart", **environment)
    try:
        while process.poll() is None and not saved_steps(workdir):
            time.sleep(0.02)
            machine.seconds_left()
    finally:
        process.kill()
        process.wait()
    at = max(saved_steps(workdir), default=0)
    if at == steps:
        raise RunFailed(f"the run of {steps} steps had ended before it was killed")
    if not at:
        raise RunFailed(f"the run that was to be killed ended with exit code {process.returncode}, before it had saved")
    machine.train_on("killed", "three_conv.py", *arguments, **environment)
    whole, killed = (_parameters(machine.output / name) for name in ("whole", "killed"))
    equal = whole.keys() == killed.keys() and all(np.array_equal(whole[path], killed[path]) for path in whole)
    yield {"steps": steps, "killed_after_step": at, "bitwise_equal": equal}


def tests(machine: Machine) -> Iterator[dict[str, Any]]:
    """The fast tests of what computes on the device."""
    chosen = ("tests/optim/test_norms.py",) if machine.dry else TESTS
    side_by_side = ("-n", "8") if importlib.util.find_spec("xdist") and not machine.dry else ()
    precision = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}  # by default these cards round float32 to TF32
    process = machine.start("-m", "pytest", "-m", "not slow", *side_by_side, *chosen, **precision)
    machine.wait(process)
    failed = [line for line in machine.end_of_log(100) if line.startswith(("FAILED", "ERROR"))]
    yield {"exit_code": process.returncode, "summary": "".join(machine.end_of_log(1)), "failed": failed}


def steps(machine: Machine) -> Iterator[dict[str, Any]]:
    """Seconds a step of each network, ours in chunks and one by one, and PyTorch's.

    Raises:
      OutOfTime: after the last, if some were not compiled in time.
    """
    settings = {"TORCHINDUCTOR_COMPILE_THREADS": "2"}  # a process; by default as many as there are cores
    modules = ["jax_device", *(["torch_device"] if importlib.util.find_spec("torch") else [])]
    names = DRY_NETWORKS if machine.dry else NETWORKS
    configs = {name: (tiny if machine.dry else common_recipe)(load_config(name)) for name in names}
    with ExitStack() as stack:
        workers = {name: {module: stack.enter_context(Worker(module, settings)) for module in modules} for name in names}
        environment, remarks = _environments(workers)
        built = _build(configs, workers, machine)
        figures: dict[str, Any] = {
            "seconds_per_step": {},
            "batch_sizes": {name: config.train.batch_size for name, config in configs.items()},
            "remarks": remarks + [f"{name}: {line}" for name, (_, lines) in built.items() for line in lines],
            "environment": environment,
        }
        for name, (variants, _) in built.items():
            repeats, made = 1 if machine.dry else REPEATS, chunk(name, machine.dry)
            turns = {variant: functools.partial(worker.time_step, variant, repeats) for variant, worker in variants.items()}
            times = {variant: [value / made for value in values] for variant, values in in_turns(turns, ROUNDS).items()}
            figures["seconds_per_step"] |= {name: times} if times else {}
            yield figures
            machine.seconds_left()
        if any(line.endswith(LATE) for _, lines in built.values() for line in lines):
            raise OutOfTime


def _environments(workers: Mapping[str, dict[str, Worker]]) -> tuple[dict[str, Any], list[str]]:
    """What each module says of its versions and the card; one that cannot be imported is taken from the workers, and named."""
    found, remarks = {}, []
    for module in list(next(iter(workers.values()))):
        try:
            found[module] = next(iter(workers.values()))[module].call("environment")
        except (CifarFlaxError, RuntimeError) as e:
            remarks.append(f"{module} was left out: {_last_line(e)}")
            for of_network in workers.values():
                of_network.pop(module)
    return found, remarks


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2]


def _build(
    configs: Mapping[str, Config], workers: Mapping[str, Mapping[str, Worker]], machine: Machine
) -> dict[str, tuple[dict[str, Worker], list[str]]]:
    """Compiles the steps of all networks side by side: by name, the worker of each variant, and what was left out.

    What has not been compiled when only the time to measure is left, or cannot be, is left out.
    """
    built: dict[str, tuple[dict[str, Worker], list[str]]] = {name: ({}, []) for name in configs}
    late: set[str] = set()

    def build(name: str) -> None:
        config, (variants, remarks), module = configs[name], built[name], "jax_device"
        try:
            workload = workers[name][module].call("draw", config, config.train.batch_size)
            for module in workers[name]:
                worker = workers[name][module]
                made, more = worker.build(workload, chunk(name, machine.dry))
                if name in late:  # its process is ended
                    raise RunFailed("it ended too late")
                variants |= dict.fromkeys(made, worker)
                remarks += more
        except (CifarFlaxError, RuntimeError) as e:
            reason = LATE if name in late else _last_line(e)
            remarks.append(f"{module} was left out: {reason}")

    with ThreadPoolExecutor(len(configs)) as pool:
        running = {pool.submit(build, name): name for name in configs}
        try:
            late |= {running[future] for future in wait(running, max(0.0, machine.seconds_left() - TIMING_SECONDS)).not_done}
        except BaseException:  # or the pool would wait for what is being compiled
            late |= set(configs)
            raise
        finally:
            for name in late:
                for worker in set(workers[name].values()) - set(built[name][0].values()):
                    worker.terminate()
    for future in running:
        future.result()  # raises what is our fault
    machine.seconds_left()
    return built


def seeds(machine: Machine) -> Iterator[dict[str, Any]]:
    """Further seeds one after another, five in one program, and what five of a small network cost beside one."""
    count = DRY_SEEDS if machine.dry else SEEDS
    many = (f"--config.train.num_seeds={count}", "--config.train.vmap_seeds=true")
    figures: dict[str, Any] = {"alone": {}}
    for seed in range(2, count):
        figures["alone"][f"seed{seed}"] = machine.train(f"seed{seed}", "fast.py:published", f"--config.seed={seed}")
        yield figures
    figures["test_top1"] = machine.test_top1(*figures["alone"])
    yield figures
    vmapped = machine.train("vmapped", "fast.py:published", *many)
    figures["vmapped"] = {**vmapped, "test_top1": machine.test_top1("vmapped")}
    yield figures
    one = machine.train("three_conv", "three_conv.py", "--config.train.epochs=2")
    five = machine.train("three_conv_vmapped", "three_conv.py", "--config.train.epochs=2", *many)
    ratio = (five["training"] - five["compilation"]) / (one["training"] - one["compilation"])
    yield {**figures, "three_conv": {"one": one, "five": five, "ratio": ratio}}


def tiny(config: Config) -> Config:
    """The same kind of network and step, too small to measure."""
    config = shrink(common_recipe(config))
    config.train.batch_size = 4
    return config


def chunk(name: str, dry: bool) -> int:
    """Updates a dispatch; of the largest network fewer, which take as long."""
    return 2 if dry else 8 if name == "wrn_28_10" else CHUNK


def _parameters(workdir: Path) -> dict[str, np.ndarray]:
    from flax.traverse_util import flatten_dict

    from cifar_flax.run import Run  # imports JAX, which takes the device

    return {path: np.asarray(x) for path, x in flatten_dict(Run.open(workdir).params("latest"), sep="/").items()}


@functools.cache
def _environment() -> dict[str, Any]:
    """Versions, commit and devices, by a process of its own: JAX would keep the device.

    Raises:
      RunFailed: JAX does not start.
    """
    command = [sys.executable, "-c", ENVIRONMENT]
    done = subprocess.run(command, cwd=ROOT, env=with_checkout(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFailed(f"JAX does not start: {done.stderr.strip().rpartition(chr(10))[2]}")
    return json.loads(done.stdout.splitlines()[-1])


def _has_gpu() -> bool:
    return _environment()["backend"] != "cpu"


def _check_environment(results: dict[str, Any], path: Path) -> None:
    """Notes on what is measured, or checks that it is what the earlier parts were measured on."""
    now = _environment()
    if not _DRY_RUN.value and not _has_gpu():
        raise UserError(f"JAX finds no GPU here, only {', '.join(now['devices'])}; to try all parts on a CPU: --dry_run")
    before = results.setdefault("environment", now)
    if changed := [name for name in ("git_commit", "git_dirty", "devices") if before[name] != now[name]]:
        name = changed[0]
        raise UserError(
            f"{path}: parts of it are of {name} {before[name]}, and now it is {now[name]}; give another folder by --output"
        )


PARTS: Mapping[str, Callable[[Machine], Iterator[dict[str, Any]]]] = {
    function.__name__: function for function in (commands, steps, seeds, resume, tests)
}
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
    output = Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    path = output / "gpu.json"
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if results.get("dry_run", _DRY_RUN.value) != _DRY_RUN.value:
        raise UserError(f"{path}: one of a dry run and a measurement, and this is the other; give another folder by --output")
    _check_environment(results, path)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # processes share the device; this one takes it to compare parameters
    machine = Machine(output, _MINUTES.value, IMPORTED if _ARCHIVE.value else "cifar100", _DRY_RUN.value)
    if _ARCHIVE.value and not machine.dry:
        machine.run("launch/import_data.py", f"--name={IMPORTED}", f"--archive={_ARCHIVE.value}")
    failed = _do_parts(machine, results)
    print(table(results))
    if failed:
        raise RunFailed(f"failed: {', '.join(failed)}; see {output}/log.txt")


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
