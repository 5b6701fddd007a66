import csv
import itertools
import json
import shlex
import signal
from collections import Counter

import optuna
import pytest

from tests.conftest import TINY_CONFIG
from tests.helpers.runs import wait_for_step
from tests.helpers.searching import STEPS, assert_complete, records, wait_for_checkpoint


def attempts(folder):
    """How many attempts at each trial are in which state, {(index, state): n}; superfluous ones, without epochs, excluded."""
    study = optuna.load_study(study_name="linear-space-random", storage=f"sqlite:///{folder}/search/study.db")
    trials = [trial for trial in study.get_trials() if trial.intermediate_values]
    return Counter((trial.user_attrs["trial_index"], trial.state.name) for trial in trials)


@pytest.mark.slow
def test_a_search_of_two_processes_survives_the_death_of_one(search, launch, tmp_path):
    trials = tmp_path / "search" / "trials"
    first = search("--trials=4", "--noprune")
    wait_for_step(trials / "0000", 2 * STEPS + 1, first)
    wait_for_checkpoint(trials / "0000", first)
    second = search("--trials=4", "--noprune")
    first.kill()
    assert first.wait() == -signal.SIGKILL
    stdout, stderr = second.communicate(timeout=600)
    assert second.returncode == 0, stderr
    assert attempts(tmp_path) == {(0, "FAIL"): 1, **{(index, "COMPLETE"): 1 for index in range(4)}}

    assert sorted(run.name for run in trials.iterdir()) == [f"{index:04d}" for index in range(4)]
    for run in trials.iterdir():
        assert_complete(run, STEPS)
    earlier = {run.name: len(json.loads((run / "environment.json").read_text())["earlier"]) for run in trials.iterdir()}
    assert earlier == {"0000": 1, "0001": 0, "0002": 0, "0003": 0}
    assert "resumed at step" in (trials / "0000" / "output.txt").read_text(), "the killed trial began anew"

    with (tmp_path / "search" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    best = {run.name: max(r["validation_top1"] for r in records(run) if r["kind"] == "epoch") for run in trials.iterdir()}
    assert {f"{int(row['trial']):04d}": float(row["top1"]) for row in rows} == best
    assert [float(row["top1"]) for row in rows] == sorted(best.values(), reverse=True)

    again = shlex.split(stdout.split("train it again: ")[1].splitlines()[0])
    assert again[:2] == ["python", "launch/train.py"]
    assert launch("train", *again[2:], "--workdir=again").returncode == 0
    winner = trials / f"{int(rows[0]['trial']):04d}"
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == json.loads((winner / "config.json").read_text())


@pytest.mark.slow
def test_a_silent_process_keeps_its_trial_and_holds_no_other_back(search, tmp_path):
    trials = tmp_path / "search" / "trials"
    first = search("--trials=2", "--noprune")
    wait_for_step(trials / "0000", 1, first)
    first.send_signal(signal.SIGSTOP)
    second = search("--trials=2", "--noprune")
    said = list(itertools.takewhile(lambda line: "waiting for trials 0:" not in line, second.lines()))
    assert any("trial 1: validation top-1" in line for line in said), "it waited before there was nothing else to run"
    first.send_signal(signal.SIGCONT)
    for process in (first, second):
        _, stderr = process.communicate(timeout=600)
        assert process.returncode == 0, stderr
    ended = attempts(tmp_path)
    assert (ended[0, "COMPLETE"], ended[1, "COMPLETE"]) == (1, 1)
    assert_complete(trials / "0000", STEPS)


BATCHES = """
from cifar_flax.search.space import Choice

def get_space():
    return {{"train.batch_size": Choice({})}}
"""


@pytest.mark.slow
def test_a_trial_that_cannot_be_set_up_fails_and_the_others_are_run(search, tmp_path):
    (tmp_path / "space.py").write_text(BATCHES.format((999, 32)))
    stdout, stderr = search("--strategy=grid").communicate(timeout=600)
    assert stderr == ""
    assert "trial 0: config.train.batch_size: 999 is more than the 290 training images" in stdout
    with (tmp_path / "search" / "trials.csv").open(newline="") as file:
        assert [(row["trial"], row["state"]) for row in csv.DictReader(file)] == [("1", "complete"), ("0", "failed")]


def test_a_search_of_which_no_trial_can_be_set_up_ends_in_a_line(search, tmp_path):
    (tmp_path / "space.py").write_text(BATCHES.format((998, 999)))
    process = search("--strategy=grid")
    _, stderr = process.communicate(timeout=600)
    assert (process.returncode, stderr.count("\n")) == (1, 1)
    assert "all 2 trials failed, trial 0 with: config.train.batch_size: 998 is more than the 290 training images" in stderr


@pytest.mark.slow
def test_a_search_that_is_told_to_stop_resumes_where_it_was(search, tmp_path):
    trials = tmp_path / "search" / "trials"
    first = search("--trials=2", "--folds=2")
    wait_for_step(trials / "0000" / "fold1", STEPS + 1, first)
    first.send_signal(signal.SIGTERM)
    _, stderr = first.communicate(timeout=600)
    assert first.returncode == 75
    assert len(stderr.splitlines()) == 1
    assert "run the same command to go on" in stderr
    assert attempts(tmp_path) == {(0, "FAIL"): 1}

    second = search("--trials=2", "--folds=2")
    stdout, stderr = second.communicate(timeout=600)
    assert second.returncode == 0, stderr
    assert attempts(tmp_path) == {(0, "FAIL"): 1, (0, "COMPLETE"): 1, (1, "COMPLETE"): 1}
    assert "parallel_coordinates.png" in stdout
    for index in range(2):
        for fold in range(2):
            assert_complete(trials / f"{index:04d}" / f"fold{fold}", 5)  # 160 images


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--space=typo.py", "--trials=1"), "--space=typo.py: no such file. Spaces there: linear.py, space.py"),
        ((), "--trials: --strategy=random needs a number of trials"),
        (("--trials=1", "--config.data.validation_fraction=0"), "a search chooses by validation top-1"),
        (("--trials=1", "--config.data.name=nothing_here"), "nothing_here"),
        (
            ("--trials=1", "--storage=sqlite:///none/study.db"),
            "--storage=sqlite:///none/study.db: cannot be opened",
        ),
        (
            ("--trials=1", "--storage=postgresql://me:secret@127.0.0.1:1/searches"),
            "--storage=postgresql://me:***@127.0.0.1:1/searches: cannot be opened: connection failed",
        ),
        (("--trials=1", "--strategy=grid"), "--strategy=grid needs Choice or IntRange"),
        (("--trials=1", "--config.model.dense=(3,)"), "config.model.dense"),
    ],
)
def test_mistakes_end_in_a_line_before_anything_trains(search, tmp_path, args, said):
    process = search(*args)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 2, stderr
    assert said in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "search" / "trials").exists()


def test_a_space_with_a_field_that_is_not_there_is_refused_in_a_line(launch, tmp_path):
    (tmp_path / "space.py").write_text(
        'from cifar_flax.search.space import *\ndef get_space(): return {"optim.learning_rte": Uniform(1, 2)}'
    )
    result = launch("search", f"--config={TINY_CONFIG}", "--space=space.py", "--strategy=random", "--trials=1")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "config.optim.learning_rte: no such field. Did you mean config.optim.learning_rate?" in result.stderr
