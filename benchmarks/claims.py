"""Measures what the five write-ups claim, and our own recipes: trains and scores them, and records a line per seed.

    python benchmarks/claims.py --list                              # what there is, and how long each takes here
    python benchmarks/claims.py --only=B,mlp,vgg_bn:short           # groups A to E, `ours`, `summit`; single names; else all
    python benchmarks/claims.py --only=three_conv:decay@20 --again  # what is recorded anew, and how far from that it is
    python benchmarks/claims.py --table                             # what has been measured, as Markdown

Run directories are OUTPUT/NAME, and what a run prints is in OUTPUT/NAME.log; after an interruption the same command resumes. A
line is appended to benchmarks/results/claims.jsonl as each run ends; runs that are in it are not repeated, unless this machine
computes in another dtype. With --again they are, into runs/claims_again, and no line is added. `seconds` is the time of
training with everything included, `compilation` its part for compiling; `peak_memory_gb` is the peak of the training process,
or of the last one of an interrupted run; `curves` has at most 50 epochs.

Several run at once on an accelerator, each in a process of its own, which also compiles; a line then has their number,
`at_once`, and its seconds are no estimate of others. docs/experiments.md reads the lines.
--dry_run goes through all of it with tiny networks and images; its figures mean nothing.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.claim_lines import distances, figures, read_lines, search_figures, table
from benchmarks.claim_list import GROUPS, ROOT, Claim, Search, Training, loaded, select
from benchmarks.claim_times import dtype, estimate, this_machine
from benchmarks.machine import with_checkout
from cifar_flax.errors import RunFailed, UserError
from cifar_flax.files.lock import exclusive_lock
from cifar_flax.files.tables import format_table
from cifar_flax.runtime import app

RECORDED = ROOT / "benchmarks" / "results" / "claims.jsonl"
_ONLY = flags.DEFINE_list("only", [], "names and groups; --list has them")
_SEEDS = flags.DEFINE_integer("seeds", None, "at most so many seeds of each", lower_bound=1)
_AT_ONCE = flags.DEFINE_string("at_once", "auto", "runs side by side; auto: 1 on a CPU, one per two cores on an accelerator")
_LIST = flags.DEFINE_bool("list", False, "train nothing; list what there is")
_TABLE = flags.DEFINE_bool("table", False, "train nothing; print what has been measured")
_CIFAR10 = flags.DEFINE_string("cifar10", "cifar10", "name of the data set to take for CIFAR-10, as config.data.name has it")
_AGAIN = flags.DEFINE_bool("again", False, "train what is recorded anew, and say how far from that it is")
_OUTPUT = flags.DEFINE_string(
    "output", None, "folder of the runs; default: runs/claims, with --again runs/claims_again, of a dry run runs/claims_dry_run"
)
_RESULTS = flags.DEFINE_string(
    "results", None, "file of the lines; default: benchmarks/results/claims.jsonl, of a dry run and again OUTPUT/claims.jsonl"
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "one seed of tiny networks and images: whether all of it runs here")

_STOP = threading.Event()  # SIGTERM or SIGINT came
_RUNNING: set[int] = set()  # process numbers of commands, which these signals are passed on to


class Task(NamedTuple):
    """One seed of a training, or a search."""

    claim: Claim
    seed: int

    @property
    def folder(self) -> str:
        """Name of its run directory."""
        return self.claim.name.replace(":", "-").replace("@", "-") + (f"-seed{self.seed}" if self.seed else "")


def main() -> None:
    """Runs what is missing, or prints what is there."""
    if _TABLE.value:
        print(table(read_lines(results())))
        return
    machine, claims = this_machine(), select(_ONLY.value)
    lines = read_lines(results())
    if _AGAIN.value and lines:
        print(f"{results()} has measurements of earlier calls, which count; remove {output()} to train those again")
    tasks = [task for task in _tasks(claims) if not _is_measured(task, lines, machine)]
    timed = [*lines, *(read_lines(RECORDED) if _AGAIN.value else ())]
    seconds = {claim.name: estimate(claim, timed, machine) for claim in claims}
    if _LIST.value:
        print(_listing(claims, tasks, seconds))
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    at_once = _at_once(machine)
    tasks.sort(key=lambda task: seconds[task.claim.name][0], reverse=at_once > 1)  # the longest last would run alone
    failures = _run_all([task for task in tasks if isinstance(task.claim, Training)], machine, at_once)
    failures += _run_all([task for task in tasks if isinstance(task.claim, Search)], machine, at_once)
    print(table(read_lines(results())))
    if _AGAIN.value:
        print(f"\n{distances(read_lines(RECORDED), read_lines(results()))}")
    if failures:
        raise RunFailed("; ".join(failures))


def output() -> Path:
    """The folder of the runs."""
    folder = "claims_dry_run" if _DRY_RUN.value else "claims_again" if _AGAIN.value else "claims"
    return Path(_OUTPUT.value or Path("runs") / folder)


def results() -> Path:
    """The file of the lines."""
    return Path(_RESULTS.value or (output() / "claims.jsonl" if _DRY_RUN.value or _AGAIN.value else RECORDED))


def run(task: Task, machine: Mapping[str, Any], at_once: int) -> bool:
    """Trains and scores one seed, or searches, and appends the line; False if another process has meanwhile.

    Raises:
      RunFailed: a command failed.
    """
    if _is_measured(task, read_lines(results()), machine):
        return False
    workdir = output() / task.folder
    if isinstance(task.claim, Search):
        command, line = _search(task.claim, workdir)
    else:
        command, line = _train(task.claim, task.seed, workdir)
    about: dict[str, Any] = {"config": task.claim.config, "planned": task.claim.epochs, "command": command}
    about |= {"at_once": at_once} if at_once > 1 else {}
    with exclusive_lock(results()) as file:
        if _is_measured(task, read_lines(results()), machine):
            return False
        file.write(json.dumps({**about, **line}) + "\n")
    return True


def _train(claim: Training, seed: int, workdir: Path) -> tuple[str, dict[str, Any]]:
    arguments = claim.arguments() + ([f"--config.seed={seed}"] if seed else [])
    memory = _launch(workdir, "train", *_changed(arguments, claim), f"--workdir={workdir}")
    score = (f"--run={workdir}", "--split=test", "--noreport")
    _launch(workdir, "evaluate", *score, *(["--probe=color"] if claim.color else []))
    views = ("flip", "flip+shift") if claim.tta else ()
    for view in views:
        _launch(workdir, "evaluate", *score, f"--tta={view}", f"--output={workdir / view}")
    return f"python launch/train.py {' '.join(arguments)}", {**figures(workdir, views), "peak_memory_gb": memory}


def _search(claim: Search, workdir: Path) -> tuple[str, dict[str, Any]]:
    arguments = claim.arguments()
    if claim.init_from:
        start = output() / claim.init_from
        if not (start / "config.json").exists():
            raise RunFailed(f"begins with the run {start}, which is not there; python launch/train.py "
                            f"--config=configs/{claim.init_from}.py --workdir={start}")  # fmt: skip
        arguments.append(f"--config.train.init_from={start}")
    given = ["--trials=2" if _DRY_RUN.value and a.startswith("--trials=") else a for a in arguments]
    _launch(workdir, "search", *_changed(given, claim), f"--workdir={workdir}")
    return f"python launch/search.py {' '.join(arguments)}", {"search": claim.name, **search_figures(workdir)}


def _changed(arguments: Sequence[str], claim: Claim) -> list[str]:
    """The flags with the tiny form of the config in a dry run, or with the name of CIFAR-10 here."""
    if _DRY_RUN.value:
        tiny = [f"--config=benchmarks/tiny.py:{claim.config}", "--config.train.epochs=2"]
        return tiny + [a for a in arguments if not a.startswith(("--config=", "--config.train.epochs="))]
    renamed = loaded(claim).data.name == "cifar10" and _CIFAR10.value != "cifar10"
    return [*arguments, *([f"--config.data.name={_CIFAR10.value}"] if renamed else [])]


def _launch(workdir: Path, name: str, *arguments: str) -> float:
    """Runs launch/NAME.py to its end, and gives the most memory that it had at a time, in GB (10^9 bytes)."""
    log = workdir.with_name(f"{workdir.name}.log")
    environment = with_checkout(os.environ) | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, f"launch/{name}.py", *(_absolute(argument) for argument in arguments)]
    with log.open("ab") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
    _RUNNING.add(process.pid)
    if _STOP.is_set():
        process.terminate()
    _, status, usage = os.wait4(process.pid, 0)
    _RUNNING.discard(process.pid)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RunFailed(f"launch/{name}.py {' '.join(arguments)} ended with exit code {process.returncode}; see {log}")
    return round(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)


def _stop(number: int, frame: Any) -> None:
    """Answers a signal: commands save and end, and no others begin."""
    _STOP.set()
    for process in tuple(_RUNNING):
        with suppress(ProcessLookupError):
            os.kill(process, number)
    raise KeyboardInterrupt


def _absolute(argument: str) -> str:
    """The flag with a path of ours made absolute: commands run in the checkout, wherever this one does."""
    name, _, value = argument.partition("=")
    paths = ("--workdir", "--run", "--output", "--config.train.init_from")
    return f"{name}={Path(value).absolute()}" if name in paths else argument


def _run_all(tasks: Sequence[Task], machine: Mapping[str, Any], at_once: int) -> list[str]:
    """Runs them, so many at once; what failed, a line each. After a signal those that run save and end, and no others begin."""
    output().mkdir(parents=True, exist_ok=True)
    failures: list[str] = []

    def attempt(task: Task) -> None:
        print(f"{task.folder}: runs, see {output() / task.folder}.log", flush=True)
        try:
            measured = run(task, machine, at_once)
            print(f"{task.folder}: measured" + ("" if measured else ", by another process"), flush=True)
        except RunFailed as e:
            failures.append(f"{task.folder}: {e}")
            print(failures[-1], flush=True)

    pool = ThreadPoolExecutor(at_once)
    try:
        list(pool.map(attempt, tasks))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return failures


def _tasks(claims: Sequence[Claim]) -> list[Task]:
    most = _SEEDS.value or (1 if _DRY_RUN.value else None)
    return [Task(claim, seed) for claim in claims for seed in range(min(claim.seeds, most or claim.seeds))]


def _is_measured(task: Task, lines: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> bool:
    claim = task.claim
    wanted = {"config": claim.config, "planned": claim.epochs, "dtype": dtype(loaded(claim), machine)}
    wanted |= {"search": claim.name} if isinstance(claim, Search) else {"seed": task.seed}
    return any(wanted.items() <= line.items() and ("search" in line) == ("search" in wanted) for line in lines)


def _at_once(machine: Mapping[str, Any]) -> int:
    if _AT_ONCE.value == "auto":
        return 1 if machine["backend"] == "cpu" else max(1, (os.cpu_count() or 2) // 2)
    if not _AT_ONCE.value.isdecimal() or not int(_AT_ONCE.value):
        raise UserError(f"--at_once: {_AT_ONCE.value!r} is no number of runs; expected auto, or 1, 2 and so on")
    return int(_AT_ONCE.value)


def _listing(claims: Sequence[Claim], tasks: Sequence[Task], seconds: Mapping[str, tuple[float, str]]) -> str:
    """A table of what is wanted, with what is missing and its time."""
    group = {claim.config: name for name, members in GROUPS.items() for claim in members}
    rows = [("group", "name", "runs", "missing", "hours each", "from")]
    total = 0.0
    for claim in claims:
        missing = sum(task.claim is claim for task in tasks)
        each, source = seconds[claim.name]
        total += missing * each
        runs = claim.trials * claim.folds if isinstance(claim, Search) else claim.seeds
        rows.append((group[claim.config], claim.name, f"{runs}", f"{missing}", f"{each / 3600:.2f}", source))
    missing_hours = f"What is missing takes {total / 3600:.1f} h, one after another; a search is one, of all its runs."
    return f"{format_table(rows, right=(2, 3, 4))}\n{missing_hours}"


if __name__ == "__main__":
    app.run(main)
