"""The parts of benchmarks/gpu.py: each yields its figures after every measurement."""

import functools
import hashlib
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import DESCRIBE, ROOT, Machine, in_a_child
from benchmarks.timing import in_turns
from benchmarks.tiny import shrink
from benchmarks.workers import Worker
from benchmarks.workload import common_recipe
from cifar_flax.config import Config
from cifar_flax.config.files import load_config
from cifar_flax.errors import CifarFlaxError, RunFailed
from cifar_flax.training.checkpoints.files import saved_steps

NETWORKS = ("fast:published", "wide", "three_conv", "vgg_bn", "resnet18", "wrn_28_10")
CHUNK = 32  # updates a dispatch, as on accelerators by default
ROUNDS, REPEATS = 3, 5  # times that each variant is timed, and chunks that it makes each time
SEEDS = 5
DRY_NETWORKS, DRY_SEEDS = ("fast:published", "three_conv", "resnet18"), 3  # one of each kind
TESTS = ("tests/models", "tests/optim", "tests/augment", "tests/training/test_step.py")
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
TIMING_SECONDS = 60  # kept for timing while networks are compiled
CODE = ("cifar_flax", "configs", "launch", "benchmarks")  # what is measured, and by what
LATE = "not compiled in time"


def commands(machine: Machine) -> Iterator[dict[str, Any]]:
    """The speed run from the shell, with nothing compiled and with all on disk."""
    shutil.rmtree(machine.programs, ignore_errors=True)
    figures: dict[str, Any] = {"alone": {}}
    for seed, name in enumerate(("seed0", "seed1")):
        figures["alone"][name] = machine.train(name, "fast.py:published", f"--config.seed={seed}")
        yield figures
    yield {**figures, "test_top1": machine.test_top1("seed0", "seed1")}


def recipe(machine: Machine) -> Iterator[dict[str, Any]]:
    """Device time of the steps of the speed run, program by program, beside which the epochs of its commands stand."""
    path = machine.output / "recipe.json"
    config = "benchmarks/tiny.py" if machine.dry else "configs/fast.py:published"
    machine.run("benchmarks/recipe_steps.py", f"--config={config}", f"--figures={path}")
    yield {"programs": json.loads(path.read_text(encoding="utf-8"))}


def resume(machine: Machine) -> Iterator[dict[str, Any]]:
    """Whether a run that is killed within an epoch and goes on ends with the bits of one that is not.

    Raises:
      RunFailed: it had ended before it was killed, or before it had saved.
    """
    epochs = 2 if machine.dry else 20
    arguments = (f"--config.train.epochs={epochs}", "--config.checkpoint.every_steps=20", "--config.seed=7")
    deterministic = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()} if has_gpu() else {}
    machine.train("whole", "three_conv.py", *arguments, **deterministic)
    steps = max(saved_steps(machine.output / "whole"))
    workdir = machine.output / "killed"
    given = (*machine.config("three_conv.py"), *arguments, f"--workdir={workdir}")
    process = machine.start("launch/train.py", *given, "--restart", **deterministic)
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
    machine.train_on("killed", "three_conv.py", *arguments, **deterministic)
    whole, killed = (_parameters(machine.output / name) for name in ("whole", "killed"))
    equal = whole.keys() == killed.keys() and all(np.array_equal(whole[path], killed[path]) for path in whole)
    yield {"steps": steps, "killed_after_step": at, "bitwise_equal": equal}


def tests(machine: Machine) -> Iterator[dict[str, Any]]:
    """The fast tests of what computes on the device."""
    chosen = ("tests/optim/test_norms.py",) if machine.dry else TESTS
    side_by_side = ("-n", "8") if importlib.util.find_spec("xdist") and not machine.dry else ()
    settings = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}  # by default these cards round float32 to TF32
    settings |= {"JAX_PLATFORMS": "cuda,cpu"} if has_gpu() else {}  # tests run on the CPU by default
    process = machine.start("-m", "pytest", "-m", "not slow", *side_by_side, *chosen, **settings)
    machine.wait(process)
    failed = [line for line in machine.end_of_log(100) if line.startswith(("FAILED", "ERROR"))]
    yield {"exit_code": process.returncode, "summary": "".join(machine.end_of_log(1)), "failed": failed}


def steps(machine: Machine) -> Iterator[dict[str, Any]]:
    """Seconds a step of each network, ours in chunks and one by one, and PyTorch's.

    Raises:
      RunFailed: after the last, if some were not compiled in time.
    """
    settings = {"TORCHINDUCTOR_COMPILE_THREADS": "2"}  # a process; by default as many as there are cores
    modules = ["jax_device", *(["torch_device"] if importlib.util.find_spec("torch") else [])]
    names = DRY_NETWORKS if machine.dry else NETWORKS
    configs = {name: (tiny if machine.dry else common_recipe)(load_config(name)) for name in names}
    with ExitStack() as stack:
        workers = {name: {module: stack.enter_context(Worker(module, settings)) for module in modules} for name in names}
        versions, remarks = _environments(workers)
        built = _build(configs, workers, machine)
        figures: dict[str, Any] = {
            "seconds_per_step": {},
            "batch_sizes": {name: config.train.batch_size for name, config in configs.items()},
            "remarks": remarks + [f"{name}: {line}" for name, (_, lines) in built.items() for line in lines],
            "environment": versions,
        }
        for name, (variants, _) in built.items():
            repeats, made = 1 if machine.dry else REPEATS, chunk(name, machine.dry)
            turns = {variant: functools.partial(worker.time_step, variant, repeats) for variant, worker in variants.items()}
            times = {variant: [value / made for value in values] for variant, values in in_turns(turns, ROUNDS).items()}
            figures["seconds_per_step"] |= {name: times} if times else {}
            yield figures
            machine.seconds_left()
        if late := [name for name, (_, lines) in built.items() if any(line.endswith(LATE) for line in lines)]:
            raise RunFailed(f"{', '.join(late)}: {LATE}; the same command measures all of them again")


def _environments(workers: Mapping[str, dict[str, Worker]]) -> tuple[dict[str, Any], list[str]]:
    """Versions and the card as each module states them; one that cannot be imported is taken from the workers, and named."""
    environments, remarks = {}, []
    for module in list(next(iter(workers.values()))):
        try:
            environments[module] = next(iter(workers.values()))[module].call("environment")
        except (CifarFlaxError, RuntimeError) as e:
            remarks.append(f"{module} was left out: {_last_line(e)}")
            for of_network in workers.values():
                of_network.pop(module)
    return environments, remarks


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
    epochs = f"--config.train.epochs={2 if machine.dry else 20}"  # so that steps outweigh what comes before and after
    one = machine.train("three_conv", "three_conv.py", epochs)
    five = machine.train("three_conv_vmapped", "three_conv.py", epochs, *many)
    ratio = (five["training"] - five["compilation"]) / (one["training"] - one["compilation"])
    yield {**figures, "three_conv": {"one": one, "five": five, "ratio": ratio}}


def autotuning(machine: Machine) -> Iterator[dict[str, Any]]:
    """Times of the first command where XLA searches less for the fastest kernels; 4, its default, is in `commands`."""
    figures: dict[str, Any] = {"levels": {}}
    for level in (0,) if machine.dry else (0, 2):
        shutil.rmtree(machine.programs, ignore_errors=True)
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level={level}".strip()
        figures["levels"][str(level)] = machine.train(f"autotune{level}", "fast.py:published", XLA_FLAGS=flags)
        yield figures


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
def environment() -> dict[str, Any]:
    """Versions, commit, code and devices; raises as `in_a_child`."""
    return {**in_a_child(DESCRIBE), "code": _checksum_of_code()}


def _checksum_of_code() -> str:
    """SHA-256 of the code, which tells versions apart where there is no commit, as in a copy of a checkout."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def has_gpu() -> bool:
    """Whether JAX finds one; raises as `environment`."""
    return environment()["backend"] != "cpu"


PARTS: Mapping[str, Callable[[Machine], Iterator[dict[str, Any]]]] = {
    function.__name__: function for function in (commands, recipe, seeds, resume, steps, tests, autotuning)
}
