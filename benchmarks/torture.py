"""Kills, full and read-only disks, a clock that jumps, damaged files and long runs: what each of them does to a result.

    python benchmarks/torture.py [--parts=kills,damage] [--kills=30] [--seed=0] [--json=benchmarks/results/torture.json]

Each injection ends in one of three ways, or the command fails with exit code 1:
  exact      the final weights, and the records but for times, are bitwise those of a run that nothing disturbed;
  fell back  it said what it lost, went on from the last good state, and the final weights are those;
  stopped    one line on stderr and exit code 1, 2 or 75; with the fault taken away the same command goes on exactly.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.injections.scene import Outcome, Result, Scene
from cifar_flax.errors import RunFailed, UserError
from cifar_flax.runtime import app

PARTS = ("kills", "disks", "clock", "damage", "long")
_PARTS = flags.DEFINE_list("parts", list(PARTS), "what to do")
_KILLS = flags.DEFINE_integer(
    "kills", 30, "of trainings, at random moments; others, and jumps of the clock: a sixth as many", lower_bound=1
)
_FILES = flags.DEFINE_integer("files", None, "files of a run that are damaged; default: one of each kind", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 10, "times that each file of the cache and of the weights is damaged", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 100, "of the long training", lower_bound=20)
_EVALUATIONS = flags.DEFINE_integer("evaluations", 50, "in one process", lower_bound=20)
_SEED = flags.DEFINE_integer("seed", 0, "chooses moments, files and bits", lower_bound=0)
_JSON = flags.DEFINE_string("json", None, "file to write the table to")


def main() -> None:
    """Tortures, and prints a table of injections and outcomes."""
    unknown = [part for part in _PARTS.value if part not in PARTS]
    if unknown:
        raise UserError(f"--parts: no {unknown[0]!r}; expected some of {', '.join(PARTS)}")
    if "disks" in _PARTS.value:
        from benchmarks.injections.disks import enter_namespace

        enter_namespace()
    start, results = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        scene = Scene(Path(folder))
        for part in _PARTS.value:
            for result in _injections(part, scene):
                results.append(result)
                print(f"{result.outcome:9}  {result.injection}  {result.detail}"[:300], flush=True)
    print(f"\n{table(results)}\n{len(results)} injections in {(time.monotonic() - start) / 60:.0f} min")
    if _JSON.value:
        _write(Path(_JSON.value), results, time.monotonic() - start)
    failed = [result for result in results if result.outcome is Outcome.FAILED]
    if failed:
        raise RunFailed(f"{len(failed)} of {len(results)} injections failed, the first of them {failed[0].injection}")


def _injections(part: str, scene: Scene) -> Iterator[Result]:
    """Those of one part; each begins with the same random numbers whatever other parts are asked for."""
    from benchmarks.injections import clocks, damage, disks, kills, long  # JAX, after the scene has set its compilation cache

    rng, few = np.random.default_rng([_SEED.value, PARTS.index(part)]), max(_KILLS.value // 6, 1)
    if part == "kills":
        yield from kills.random_kills(scene, rng, _KILLS.value)
        yield from kills.aimed_kills(scene, rng, few)
        yield from kills.kills_of_evaluate(scene, rng, few)
    elif part == "disks":
        yield from disks.full_disks(scene)
        yield from disks.read_only_disks(scene)
    elif part == "clock":
        yield from clocks.clock_jumps(scene, rng, few)
    elif part == "damage":
        yield from damage.damaged_weights(scene, rng, _ROUNDS.value)
        yield from damage.damaged_caches(scene, rng, _ROUNDS.value)
        yield from damage.damaged_runs(scene, rng, _FILES.value)
    else:
        yield from long.long_runs(scene, _EPOCHS.value, _EVALUATIONS.value)


def table(results: list[Result]) -> str:
    """Injections and how often each ended in which way, as Markdown."""
    counts: dict[str, Counter[Outcome]] = {}
    for result in results:
        counts.setdefault(result.injection, Counter())[result.outcome] += 1
    rows = [f"| injection | {' | '.join(Outcome)} |", "| --- " * (1 + len(Outcome)) + "|"]
    rows += [f"| {name} | {' | '.join(str(found[o] or '') for o in Outcome)} |" for name, found in counts.items()]
    return "\n".join(rows)


def _write(path: Path, results: list[Result], seconds: float) -> None:
    from cifar_flax.files.atomic import write_text
    from cifar_flax.training.environment import describe_environment

    environment = describe_environment()
    about = {name: environment[name] for name in ("time", "command", "git_commit", "cpu", "cpus", "packages")}
    counts = Counter((result.injection, result.outcome) for result in results)
    lines = [{"injection": name, "outcome": outcome, "n": n} for (name, outcome), n in counts.items()]
    details = {result.injection: result.detail for result in results if result.detail}
    write_text(path, json.dumps({**about, "seconds": round(seconds), "results": lines, "said": details}, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
