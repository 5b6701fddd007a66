import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import dedent

import optuna
import pytest
from optuna.trial import TrialState

from cifar_flax.errors import UserError
from cifar_flax.search.space import Choice, IntRange, LogUniform, Space
from cifar_flax.search.study import Study, slot_of
from tests.conftest import ROOT

SPACE = Space(Path("space.py"), {"rate": LogUniform(1e-4, 1e-1), "width": IntRange(1, 99), "name": Choice(("a", "b"))}, None)
GRID = Space(Path("grid.py"), {"x": Choice((1, 2, 3)), "y": Choice(("a", "b"))}, None)


@pytest.fixture
def study(tmp_path):
    """Opens the same study anew each time, as another process would."""

    def open_study(space=SPACE, strategy="random", trials=6, **options):
        return Study(f"sqlite:///{tmp_path}/study.db", "s", space, strategy, trials, **options)

    return open_study


def run_all(study, value=lambda params: params["rate"]):
    given = {}
    while (trial := study.claim()) is not None:
        given[slot_of(trial)] = dict(trial.params)
        assert study.finish(trial, value(trial.params))
    return given


def other_process(folder, *code):
    head = f"""
        import os, time
        from tests.search.test_study import SPACE, Study
        study = Study("sqlite:///{folder}/study.db", "s", SPACE, "random", 1, heartbeat=1)
    """
    lines = "\n".join(map(dedent, (head, *code)))
    return subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE, text=True, cwd=ROOT)


def wait_for(claim, seconds=30):
    deadline = time.monotonic() + seconds
    while (trial := claim()) is None and time.monotonic() < deadline:
        time.sleep(0.2)
    return trial


def states(study):
    return [trial.state.name for trial in study.optuna.get_trials()]


def test_a_grid_is_run_once_whoever_runs_it(study):
    one, other = study(GRID, "grid"), study(GRID, "grid")
    given = []
    for turn in range(6):
        trial = (one, other)[turn % 2].claim()
        given.append((trial.params["x"], trial.params["y"]))
        if turn % 3:  # the rest are still running when the next is claimed
            one.finish(trial, 0.5)
    assert given == [(x, y) for x in (1, 2, 3) for y in "ab"]
    assert one.claim() is None
    assert other.claim() is None


@pytest.mark.parametrize(("strategy", "trials"), [("random", 3), ("tpe", 12)])  # the first ten of tpe are random
def test_what_is_drawn_depends_on_the_seed_and_differs_between_trials(tmp_path, strategy, trials):
    def draw(seed, name):
        return run_all(Study(f"sqlite:///{tmp_path}/{name}.db", "s", SPACE, strategy, trials, seed=seed))

    first = draw(0, "first")
    assert draw(0, "again") == first
    assert draw(1, "other") != first
    assert len({params["rate"] for params in first.values()}) == trials
    assert all(1e-4 <= p["rate"] <= 1e-1 and 1 <= p["width"] <= 99 and p["name"] in "ab" for p in first.values())


def test_tpe_learns_from_the_trials_before(study):
    given = run_all(study(strategy="tpe", trials=26), value=lambda params: -abs(params["width"] - 70))
    late = [params["width"] for slot, params in given.items() if slot >= 16]
    assert sum(abs(width - 70) < 20 for width in late) > len(late) / 2  # of random ones two in five would be


def test_random_trials_are_the_same_for_any_number_of_processes(study, tmp_path):
    alone = run_all(Study(f"sqlite:///{tmp_path}/alone.db", "s", SPACE, "random", 6))
    one, other = study(), study()
    trials = [(one, other)[turn % 2].claim() for turn in range(6)]
    assert {slot_of(trial): dict(trial.params) for trial in trials} == alone


def test_the_number_of_trials_is_a_total_that_may_grow(study):
    assert sorted(run_all(study(trials=3))) == [0, 1, 2]
    assert study(trials=3).claim() is None
    assert sorted(run_all(study(trials=5))) == [3, 4]
    assert len(study(trials=5).finished()) == 5


def test_a_slot_in_use_is_left_alone_and_the_next_is_taken(study):
    mine = study(trials=3)
    mine.give_back(mine.claim())
    assert [slot_of(mine.claim(lambda slot: slot in (0, 1))), mine.claim(lambda slot: slot in (0, 1))] == [2, None]
    assert [slot_of(mine.claim()), slot_of(mine.claim())] == [0, 1]


def test_threads_that_claim_at_once_never_share_a_trial(study):
    slots, barrier = [], threading.Barrier(4)
    study(trials=12)

    def claim():
        mine = study(trials=12)
        barrier.wait()
        while (trial := mine.claim()) is not None:
            slots.append(slot_of(trial))
            time.sleep(0.001)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slots) == list(range(12))
    live = [trial for trial in study(trials=12).optuna.get_trials() if trial.state is not TrialState.FAIL]
    assert sorted(slot_of(trial) for trial in live) == list(range(12))


def test_a_trial_that_is_given_back_is_taken_up_with_the_same_values(study):
    first = study()
    trial = first.claim()
    trial.report(0.25, 1)
    first.give_back(trial)
    other = study()
    again = other.claim()
    assert (slot_of(again), again.params, other.reported(again)) == (0, trial.params, {1})
    assert states(other) == ["RUNNING"]


def test_a_trial_whose_process_was_killed_is_run_again_once_with_the_same_values(study, tmp_path):
    process = other_process(
        tmp_path,
        """
        trial = study.claim()
        with study.alive(trial):
            print(trial.params["rate"], flush=True)
            time.sleep(60)
        """,
    )
    rate = float(process.stdout.readline())
    mine = study(trials=1, heartbeat=1)
    time.sleep(7.5)  # longer than what a silent process is given
    assert mine.claim() is None, "it lives"
    process.kill()
    process.wait()
    trial = wait_for(mine.claim)
    assert (slot_of(trial), trial.params["rate"]) == (0, rate)
    assert study(trials=1, heartbeat=1).claim() is None
    assert mine.finish(trial, 0.5)
    assert states(mine) == ["FAIL", "COMPLETE"]


def test_a_process_killed_before_its_first_heartbeat_does_not_keep_its_trial(study, tmp_path, monkeypatch):
    monkeypatch.setattr("cifar_flax.search.study.SILENT_BEATS", 1)
    process = other_process(tmp_path, "Study._draw = lambda study, trial: os.kill(os.getpid(), 9)", "study.claim()")
    process.wait()
    mine = study(trials=1, heartbeat=1)
    assert states(mine) == ["RUNNING"]
    assert slot_of(wait_for(mine.claim)) == 0


def test_a_process_that_was_taken_for_dead_cannot_end_its_trial(study):
    slow = study(trials=1)
    trial = slow.claim()
    slow._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)  # as another process would after a long silence
    other = study(trials=1)
    again = other.claim()
    assert slot_of(again) == 0
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        trial.report(0.5, 1)
    assert not slow.finish(trial, 0.9, sd=0.1)
    slow.give_back(trial)
    assert slow.claim() is None
    assert other.finish(again, 0.4)
    assert [t.value for t in slow.finished()] == [0.4]


def test_of_two_attempts_at_one_trial_the_first_counts(study):
    one = study(trials=2)
    for _ in range(2):  # as when two processes find at the same moment that there is none
        one.optuna.enqueue_trial({}, user_attrs={"slot": 0})
    assert [slot_of(one.claim()), slot_of(study(trials=2).claim())] == [0, 1]
    assert one.claim() is None
    assert sorted(states(one)) == ["FAIL", "RUNNING", "RUNNING"]


def test_a_new_attempt_has_the_values_of_the_one_that_began_whatever_came_between(study):
    first = study(trials=1, seed=0)
    for _ in range(2):
        first.optuna.enqueue_trial({}, user_attrs={"slot": 0})
    begun = first.claim()
    assert first.claim() is None, "the second is one too many"
    first._storage.set_trial_state_values(begun._trial_id, TrialState.FAIL)  # as another process would after a long silence
    again = study(trials=1, seed=1).claim()
    assert again.params == begun.params


def test_hopeless_trials_are_pruned_and_counted(study):
    found = study(trials=7, prune_from=2)
    for slot in range(7):
        trial = found.claim()
        trial.report(0.1 if slot >= 5 else 0.5, 1)
        assert not trial.should_prune(), "too early to tell"
        trial.report(0.1 if slot == 5 else 0.5, 2)
        assert trial.should_prune() == (slot == 5)
        found.finish(trial, None if slot == 5 else 0.5)
    assert states(found) == ["COMPLETE"] * 5 + ["PRUNED", "COMPLETE"]
    assert len(found.finished()) == 7


def test_another_search_under_the_same_name_is_refused(study):
    study(fingerprint={"config.train.epochs": "3"})
    study(fingerprint={"config.train.epochs": "3"})
    with pytest.raises(UserError, match=r"study s in sqlite.*another search.*\n  config\.train\.epochs: 3 there, 4 now"):
        study(fingerprint={"config.train.epochs": "4"})
    with pytest.raises(UserError, match=r"space x: None there, Choice"):
        study(GRID, "random", fingerprint={"config.train.epochs": "3"})
