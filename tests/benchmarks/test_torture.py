import json
import os
import subprocess
import sys

import pytest

from benchmarks.injections import long
from benchmarks.injections.judging import judge
from benchmarks.injections.scene import Outcome
from cifar_flax.errors import UserError
from tests.conftest import ROOT

QUICK = ("--kills=3", "--files=4", "--rounds=1", "--epochs=50", "--evaluations=20")


def torture(*flags):
    command = [sys.executable, str(ROOT / "benchmarks" / "torture.py"), *flags]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def may_mount():
    return subprocess.run(["unshare", "--map-root-user", "--mount", "true"], check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Injection -> outcomes, of a few of each kind."""
    if not may_mount() and os.environ.get("CI"):
        pytest.fail("where CI runs, tmpfs can be mounted in a namespace")
    parts = "kills,disks,clock,damage,long" if may_mount() else "kills,clock,damage,long"
    path = tmp_path_factory.mktemp("torture") / "torture.json"
    done = torture(f"--parts={parts}", *QUICK, f"--json={path}")
    print(done.stdout, done.stderr)  # for who looks into a failure
    found = {}
    for line in json.loads(path.read_text())["results"]:
        found.setdefault(line["injection"], set()).add(line["outcome"])
    return found


@pytest.mark.slow
def test_no_injection_fails(outcomes):
    assert [name for name, found in outcomes.items() if "FAILED" in found] == []


@pytest.mark.slow
def test_runs_that_were_killed_end_as_if_they_had_not_been(outcomes):
    kills = {name: found for name, found in outcomes.items() if name.startswith("kill -9")}
    assert {"kill -9 while it writes the cache", "kill -9 while it writes a checkpoint", "kill -9 of evaluate"} < kills.keys()
    assert set.union(*kills.values()) == {"exact"}


@pytest.mark.slow
def test_full_and_read_only_disks_cost_a_line_and_nothing_else(outcomes):
    if not may_mount():
        pytest.skip("nothing can be mounted here")
    full = {name: found for name, found in outcomes.items() if name.startswith("full disk")}
    assert len(full) == 5
    assert set.union(*full.values()) == {"stopped"}
    read_only = {name: found for name, found in outcomes.items() if name.startswith("read-only")}
    assert read_only.pop("read-only cache with the data") == {"exact"}
    assert len(read_only) == 3
    assert set.union(*read_only.values()) == {"stopped"}


@pytest.mark.slow
def test_a_clock_that_jumps_back_changes_nothing(outcomes):
    assert outcomes["clock jumping back"] == {"exact"}


@pytest.mark.slow
def test_damaged_data_and_weights_are_made_anew_or_refused(outcomes):
    assert outcomes["flip pretrained tensors, then load"] == {"stopped"}
    assert outcomes["flip cache (made anew) train_images.npy, then load"] == {"fell back"}
    assert outcomes["flip cache (imported) train_labels.npy, then load"] == {"stopped"}


@pytest.mark.slow
def test_long_runs_do_not_grow(outcomes):
    assert {name for name in outcomes if "in one process" in name} == {
        "50 epochs in one process",
        "20 evaluations in one process",
    }


def test_growth_is_that_after_the_warm_up():
    warm_up = [{"resident memory": 100 * i, "open files": 1, "threads": i} for i in range(1, 31)]
    flat = [{"resident memory": 2000, "open files": 40, "threads": 20}] * 70
    assert set(long.growth(warm_up + flat).values()) == {0}
    leak = [{"resident memory": 2000 + i, "open files": 40 + i, "threads": 20 + (i > 40)} for i in range(70)]
    grown = long.growth(warm_up + leak)
    assert grown["threads"] == 0 < long.GROWTH < grown["resident memory"] < grown["open files"]


def test_what_is_open_while_a_checkpoint_is_written_is_no_growth():
    few, many = (14, 22, 12, 14, 20), (22, 22, 12, 24, 20)
    samples = [{"resident memory": 2000, "open files": n, "threads": 37} for n in few * 6 + many * 4]
    assert set(long.growth(samples).values()) == {0}
    leaking = [{**sample, "open files": sample["open files"] + i // 5} for i, sample in enumerate(samples)]
    assert long.growth(leaking)["open files"] > long.GROWTH


def reader(damaged):
    """Stands for a command on a folder with one file; `damaged` is called where that is not "whole"."""

    def read(folder):
        content = (folder / "file").read_text()
        return {"weights": content if content == "whole" else damaged()}

    return read


def refuse():
    raise UserError("file: damaged")


def crash():
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("damaged", "outcome"),
    [
        (refuse, Outcome.STOPPED),
        (crash, Outcome.FAILED),
        (lambda: "whole", Outcome.EXACT),
        (lambda: "silently another", Outcome.FAILED),
    ],
)
def test_what_counts_as_which_outcome(tmp_path, damaged, outcome):
    (tmp_path / "file").write_text("hole")
    result = judge("an injection", tmp_path, {"file": b"whole"}, reader(damaged), {"weights": "whole"})
    assert result.outcome is outcome


def test_an_unknown_part_is_one_line():
    done = torture("--parts=kills,flood")
    assert (done.returncode, done.stderr) == (2, "--parts: no 'flood'; expected some of kills, disks, clock, damage, long\n")
