import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState

from cifar_flax.errors import Preempted, UserError
from cifar_flax.search import study as study_module
from cifar_flax.search.space import Choice, IntRange, LogUniform, Space
from cifar_flax.search.study import DEATHS, PROGRESS, Study, trial_index
from tests.conftest import ROOT
from tests.helpers.searching import raise_timeout

SPACE = Space(Path("space.py"), {"rate": LogUniform(1e-4, 1e-1), "width": IntRange(1, 99), "name": Choice(("a", "b"))}, None)
GRID = Space(Path("grid.py"), {"x": Choice((1, 2, 3)), "y": Choice(("a", "b"))}, None)


@pytest.fixture
def study(tmp_path):
    """Opens the same study anew each time, as another process would."""

    def open_study(space=SPACE, strategy="random", trials=6, name="study", **options):
        return Study(f"sqlite:///{tmp_path}/{name}.db", "s", space, strategy, trials, **options)

    return open_study


def run(study, score=lambda params: params["rate"]):
    """Runs what is left of a search; returns the values of the trials that were run, by index."""
    params = {}

    def objective(trial):
        params[trial_index(trial)] = trial.params
        return score(trial.params)

    study.run(objective)
    return params


def run_in_threads(studies, objective):
    """Runs a search in as many threads as studies, which all begin at the same moment."""
    barrier = threading.Barrier(len(studies))

    def work(study):
        barrier.wait()
        study.run(objective, wait=lambda unfinished: time.sleep(0.05))

    threads = [threading.Thread(target=work, args=(study,)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def states(study):
    return Counter((trial.user_attrs["trial_index"], trial.state.name) for trial in study.optuna.get_trials())


def test_a_grid_runs_each_point_once_in_order(study):
    params = run(study(GRID, "grid"), score=lambda params: 0.5)
    assert [(point["x"], point["y"]) for _, point in sorted(params.items())] == [(x, y) for x in (1, 2, 3) for y in "ab"]
    assert run(study(GRID, "grid"), score=lambda params: 0.5) == {}


def test_several_workers_run_each_point_of_a_grid_once(study):
    points = Counter()

    def objective(trial):
        points[trial.params["x"], trial.params["y"]] += 1
        return 0.5

    studies = [study(GRID, "grid") for _ in range(4)]
    run_in_threads(studies, objective)
    assert points == {(x, y): 1 for x in (1, 2, 3) for y in "ab"}
    assert [trial_index(trial) for trial in studies[0].finished()] == list(range(6))


@pytest.mark.parametrize(("strategy", "trials"), [("random", 3), ("tpe", 12)])  # the first ten of tpe are random
def test_values_depend_on_the_seed_and_differ_between_trials(study, strategy, trials):
    first = run(study(strategy=strategy, trials=trials, name="first"))
    assert run(study(strategy=strategy, trials=trials, name="again")) == first
    assert run(study(strategy=strategy, trials=trials, name="other", seed=1)) != first
    assert len({params["rate"] for params in first.values()}) == trials
    assert all(1e-4 <= p["rate"] <= 1e-1 and 1 <= p["width"] <= 99 and p["name"] in "ab" for p in first.values())


def test_tpe_learns_from_the_trials_before(study):
    params = run(study(strategy="tpe", trials=26), score=lambda params: -abs(params["width"] - 70))
    late = [values["width"] for index, values in params.items() if index >= 16]
    assert sum(abs(width - 70) < 20 for width in late) > len(late) / 2  # of random ones two in five would be


def test_random_trials_are_the_same_for_any_number_of_workers(study):
    alone = run(study(name="alone"))
    params = {}

    def objective(trial):
        params[trial_index(trial)] = trial.params
        return 0.5

    run_in_threads([study() for _ in range(3)], objective)
    assert params == alone


def test_the_number_of_trials_is_a_total_that_may_grow(study):
    assert sorted(run(study(trials=3))) == [0, 1, 2]
    assert sorted(run(study(trials=5))) == [3, 4]
    assert run(study(trials=5)) == {}


def test_a_trial_that_was_told_to_stop_is_run_again_with_the_same_values(study):
    begun = []

    def stopped(trial):
        begun.append(trial.params)
        raise Preempted("SIGTERM: saved")

    with pytest.raises(Preempted):
        study(trials=2, seed=0).run(stopped)
    params = run(study(trials=2, seed=1))
    assert sorted(params) == [0, 1]
    assert params[0] == begun[0]


def test_values_that_were_drawn_halfway_are_drawn_anew_and_are_the_same(study, monkeypatch):
    undisturbed = run(study(trials=2, name="undisturbed"))
    suggest, drawn = study_module._suggest, []

    def die(trial, name, domain):
        if drawn == ["rate"]:
            raise KeyboardInterrupt
        suggest(trial, name, domain)
        drawn.append(name)

    monkeypatch.setattr(study_module, "_suggest", die)
    with pytest.raises(KeyboardInterrupt):
        study(trials=2).run(lambda trial: 0.5)
    monkeypatch.undo()
    assert run(study(trials=2)) == undisturbed


def test_another_order_of_the_domains_is_another_search(study):
    study(GRID, "grid")
    turned = Space(GRID.path, dict(reversed(GRID.domains.items())), None)
    with pytest.raises(UserError, match=r"(?s)is another search; .*order of the space: x, y there, y, x now"):
        study(turned, "grid")


def test_deaths_of_a_trials_process_are_counted_since_its_last_further_epoch(study):
    def die(epochs):
        opened = study(trials=1)
        opened._next(lambda index: False)
        attempt = opened.optuna.ask({})
        if epochs:
            attempt.set_user_attr(PROGRESS, [0, epochs])
        opened.optuna.tell(attempt, state=TrialState.FAIL)  # as by the heartbeats, with no word of the process itself

    deaths = []

    def objective(trial):
        deaths.append(trial.user_attrs[DEATHS])
        raise Preempted("SIGTERM: saved")

    for epochs in (0, 0, 2, 2, 1):
        die(epochs)
        with pytest.raises(Preempted):
            study(trials=1).run(objective)  # which ends by itself, and is no death
    assert deaths == [1, 2, 1, 2, 3]


@pytest.mark.slow
def test_a_trial_whose_process_was_killed_is_run_again_with_the_same_values(study, tmp_path):
    code = f"""
from tests.search.test_study import SPACE, Study
import time

def objective(trial):
    print(trial.params["rate"], flush=True)
    time.sleep(600)

Study("sqlite:///{tmp_path}/study.db", "s", SPACE, "random", 2, heartbeat=1).run(objective)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    rate = float(process.stdout.readline())
    waited = []

    def wait(unfinished):
        waited.append(unfinished)
        time.sleep(0.5)
        if len(waited) == 16:  # longer than what a silent process is given
            process.kill()
            assert process.wait() == -signal.SIGKILL

    params = {}

    def objective(trial):
        params[trial_index(trial)] = trial.params["rate"]
        return 0.5

    mine = study(trials=2, heartbeat=1)
    mine.run(objective, wait=wait)
    assert len(waited) >= 16, "it was alive"
    assert params[0] == rate
    assert states(mine) == {(0, "FAIL"): 1, (0, "COMPLETE"): 1, (1, "COMPLETE"): 1}


def test_a_trial_that_was_taken_over_counts_where_it_ends_first(study, capsys):
    slow, fast = study(trials=1), study(trials=1)

    def silent(trial):  # for so long that another process takes the trial for dead, and runs it
        fast.optuna.tell(trial.number, state=TrialState.FAIL)
        fast.run(lambda trial: 0.4)
        trial.report(0.9, 1)
        return 0.9

    slow.run(silent)
    assert "trial 0: another process has taken it over" in capsys.readouterr().out
    assert [trial.value for trial in slow.finished()] == [0.4]


def test_a_signal_to_a_process_whose_trial_was_taken_over_still_stops_it(study):
    slow, fast = study(trials=1), study(trials=1)

    def silent(trial):
        fast.optuna.tell(trial.number, state=TrialState.FAIL)
        raise Preempted("SIGTERM: saved")

    with pytest.raises(Preempted):
        slow.run(silent)


def test_a_trial_that_two_processes_have_queued_is_run_once(study):
    mine = study(trials=2)
    for _ in range(2):
        mine.optuna.enqueue_trial({}, user_attrs={"trial_index": 0})
    indices = []
    mine.run(lambda trial: indices.append(trial_index(trial)) or 0.5)
    assert indices == [0, 1]
    assert states(mine) == {(0, "COMPLETE"): 1, (0, "FAIL"): 1, (1, "COMPLETE"): 1}


def test_a_retry_has_the_values_of_the_attempt_that_began(study):
    mine = study(trials=2, seed=0)
    for _ in range(2):
        mine.optuna.enqueue_trial({}, user_attrs={"trial_index": 0})
    begun = []

    def stopped(trial):
        begun.append(trial.params)
        with pytest.raises(TimeoutError):  # another process has the superfluous attempt fail, and runs the other trial
            study(trials=2).run(lambda trial: 0.5, wait=raise_timeout)
        raise Preempted("SIGTERM: saved")

    with pytest.raises(Preempted):
        mine.run(stopped)
    assert run(study(trials=2, seed=1)) == {0: begun[0]}


def test_another_search_under_the_same_name_is_refused(study):
    study(fingerprint={"config.train.epochs": "3"})
    study(fingerprint={"config.train.epochs": "3"})
    with pytest.raises(UserError, match=r"study s in sqlite.*another search.*\n  config\.train\.epochs: 3 there, 4 now"):
        study(fingerprint={"config.train.epochs": "4"})
    with pytest.raises(UserError, match=r"space x: None there, Choice"):
        study(GRID, "random", fingerprint={"config.train.epochs": "3"})
