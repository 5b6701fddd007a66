import fcntl
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace

import jax
import optuna
import pytest
from optuna.trial import TrialState

from cifar_flax.config import Config
from cifar_flax.config.serialize import read_config
from cifar_flax.errors import ConfigError, Diverged, Preempted, RunFailed, UserError, WorkdirLocked
from cifar_flax.search import objective
from cifar_flax.search.space import IntRange, Space
from cifar_flax.search.study import PROGRESS, Study, trial_index
from cifar_flax.training.run_dir import RESTART_HINT

COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED


def values(study):
    return [trial.value for trial in study.finished()]


def states(study):
    return [trial.state for trial in study.finished()]


def test_a_trials_score_is_its_best_epoch(start, trainings):
    trainings.score = lambda config, epoch: config.augment.cutout / 100 + (0.3, 0.6, 0.4)[epoch - 1]
    _, study = start()
    assert values(study) == [0.6, 0.61, 0.62, 0.63]


def test_each_trial_is_a_run_directory_with_its_output(start, capsys):
    search, _ = start(trials=2)
    for index in (0, 1):
        config = read_config(search.folder(index) / "config.json")
        assert (config.augment.cutout, config.train.epochs, config.data.folds) == (index, 3, None)
        assert (search.folder(index) / "output.txt").read_text() == "the progress of the training\n"
    assert "the progress" not in capsys.readouterr().out


def test_a_trial_with_folds_scores_their_mean(start, trainings, capsys):
    scores = {0: 0.5, 1: 0.7, 2: 0.6}
    trainings.score = lambda config, epoch: scores[config.data.fold] + config.augment.cutout / 10
    search, study = start(trials=2, folds=3)
    assert values(study) == [pytest.approx(0.6), pytest.approx(0.7)]
    assert "trial 1: validation top-1 70.00% +- 10.00%" in capsys.readouterr().out
    for fold in range(3):
        data = read_config(search.folder(1) / f"fold{fold}" / "config.json").data
        assert (data.folds, data.fold) == (3, fold)


def test_trials_below_the_median_are_pruned(start, trainings, capsys):
    trainings.score = lambda config, epoch: 0.1 if config.augment.cutout == 6 else 0.5
    _, study = start(trials=8, prune_from=2)
    assert states(study) == [COMPLETE] * 6 + [PRUNED, COMPLETE]
    assert (6, 0, 2) in trainings.epochs
    assert (6, 0, 3) not in trainings.epochs
    assert "trial 6: pruned after epoch 2" in capsys.readouterr().out


def test_a_run_that_stopped_by_itself_is_complete_however_low_its_score(start, trainings):
    trainings.score = lambda config, epoch: 0.1 if config.augment.cutout == 6 else 0.5
    trainings.stops_after = 2
    _, study = start(trials=7, prune_from=2)
    assert states(study) == [COMPLETE] * 7


def test_a_trial_whose_process_always_dies_is_given_up_and_the_others_go_on(start, monkeypatch):
    monkeypatch.setattr(Study, "_deaths", lambda self, trial: 3 if trial_index(trial) == 0 else 2)
    _, study = start(trials=2)
    assert states(study) == [PRUNED, COMPLETE]
    assert study.finished()[0].user_attrs["failure"].startswith("its process died 3 times without a further epoch")


def test_a_trial_is_not_pruned_after_its_last_epoch(start, trainings):
    trainings.score = lambda config, epoch: 0.1 if config.augment.cutout == 6 else 0.5
    _, study = start(trials=7, prune_from=3)
    assert states(study) == [COMPLETE] * 7


def test_each_run_is_summarized_once_it_has_ended_however(start, trainings):
    trainings.score = lambda config, epoch: 0.1 if config.augment.cutout == 6 else 0.5
    search, _ = start(trials=7, prune_from=2)
    assert trainings.summarized == [search.folder(index) for index in range(7)]


@pytest.mark.parametrize(("varied", "fails"), [("augment.cutout", True), ("train.batch_size", False)])
def test_what_a_machine_refuses_is_said_before_any_trial_unless_trials_set_it(tmp_path, monkeypatch, varied, fails):
    def refuse(config):
        raise ConfigError("config.train.batch_size: 64 cannot be shared evenly by 3 devices")

    monkeypatch.setattr(objective.Trainer, "from_config", refuse)
    search = objective.Search(Config(), Space(tmp_path, {varied: IntRange(1, 9)}, None), tmp_path)
    with pytest.raises(ConfigError, match="by 3 devices") if fails else nullcontext():
        search.check()


def test_a_folder_of_another_search_is_to_be_moved_away(start, trainings, tmp_path):
    def score(config, epoch):
        raise UserError(f"{tmp_path} holds a run with another config; {RESTART_HINT}")

    trainings.score = score
    with pytest.raises(UserError, match=r"another config; move that folder away, and the trial is trained anew$"):
        start()


def test_an_attempt_records_its_epochs_in_all_folds(start):
    _, study = start(trials=1, folds=2)
    assert study.finished()[0].user_attrs[PROGRESS] == [1, 3]  # the third epoch of the second fold


def test_folds_are_pruned_by_the_first_one(start, trainings):
    trainings.score = lambda config, epoch: 0.1 if (config.augment.cutout, config.data.fold) in ((5, 1), (6, 0)) else 0.5
    _, study = start(trials=7, folds=2, prune_from=3)
    assert states(study) == [COMPLETE] * 6 + [PRUNED]
    assert (6, 1, 1) not in trainings.epochs


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Diverged("the loss is not finite at step 7; try a lower rate"), "the loss is not finite at step 7"),
        (MemoryError(), "out of memory"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes"), "out of memory"),
    ],
)
def test_a_trial_that_cannot_be_trained_fails_and_is_not_retried(start, trainings, error, failure):
    def score(config, epoch):
        if (config.augment.cutout, epoch) == (1, 2):
            raise error
        return 0.5

    trainings.score = score
    start(trials=3)
    _, study = start(trials=3)
    assert study.finished()[1].user_attrs["failure"] == failure
    assert trainings.epochs.count((1, 0, 2)) == 1
    assert len(study.finished()) == 3


def test_a_trial_whose_values_make_no_config_fails(start, trainings):
    _, study = start(trials=3, space=Space("space.py", {"augment.cutout": IntRange(-1, 1)}, None))
    assert "config.augment.cutout" in study.finished()[0].user_attrs["failure"]
    assert [cutout for cutout, _, epoch in trainings.epochs if epoch == 1] == [0, 1]


@pytest.mark.parametrize(
    "error",
    [Preempted("SIGTERM: saved"), KeyboardInterrupt(), UserError("no data"), RunFailed("disk full"), ValueError("a bug")],
)
def test_whatever_else_ends_the_process_leaves_the_trial_to_be_resumed(start, trainings, error):
    raised = []

    def score(config, epoch):
        if (config.augment.cutout, epoch) == (1, 3) and not raised:
            raised.append(error)
            raise error
        return epoch / 10

    trainings.score = score
    with pytest.raises(type(error)):
        start()
    _, study = start()
    trained = Counter(trainings.epochs)
    assert trained.pop((1, 0, 3)) == 2
    assert set(trained.values()) == {1}
    assert values(study) == [0.3] * 4
    assert study.finished()[1].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}


def test_after_its_minutes_a_search_ends_and_goes_on_when_it_is_started_again(start, trainings, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(objective, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=None))

    def score(config, epoch):
        clock[0] += 30.0 if config.augment.cutout < 2 else 0.0
        if clock[0] > 150:
            raise Preempted("--max_minutes=0.5 are over: saved at step 3")  # of the minute and a half that one trial takes
        return epoch / 10

    trainings.score = score
    with pytest.raises(Preempted, match=r"^--max_minutes=2 are over: 1 of 4 trials are finished; run the same command"):
        start(max_minutes=2)
    assert trainings.max_minutes == [2.0, 0.5]
    clock[0] = 0.0
    with pytest.raises(Preempted, match=r"^--max_minutes=0\.5 are over: 2 of 4 trials are finished"):
        start(max_minutes=0.5)  # over when the second trial has ended: no third begins
    _, study = start()
    assert values(study) == [0.3] * 4
    assert Counter(trainings.epochs)[1, 0, 3] == 2  # the epoch that was cut off


def test_a_trial_on_other_images_than_earlier_ones_is_refused_until_they_are_back(start, trainings):
    def score(config, epoch):
        trainings.hashes = {"images": "1"}
        return 0.5

    trainings.score, there = score, trainings.hashes
    for _ in range(2):
        with pytest.raises(UserError, match=r"^shapes100 is not what it was in earlier trials of the study s; put it back, or"):
            start(trials=2)
        assert {cutout for cutout, _, _ in trainings.epochs} == {0}
    trainings.score, trainings.hashes = lambda config, epoch: 0.5, there
    _, study = start(trials=2)
    assert values(study) == [0.5, 0.5]


def test_epochs_that_a_killed_process_did_not_report_are_reported(start, trainings):
    search, _ = start(trials=1)
    lines = (search.folder(0) / "metrics.jsonl").read_text().splitlines(keepends=True)
    for index, epochs in ((1, 2), (2, 3)):
        search.folder(index).mkdir()
        (search.folder(index) / "metrics.jsonl").write_text("".join(lines[:epochs]))
    _, study = start(trials=3)
    assert [trial.intermediate_values for trial in study.finished()] == [{1: 0.5, 2: 0.5, 3: 0.5}] * 3
    assert values(study) == [0.5] * 3
    assert trainings.epochs == [(0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 0, 3)]


def test_a_finished_run_whose_records_are_gone_is_named(start, trainings, tmp_path):
    trainings.train = lambda *args, **kwargs: None
    with pytest.raises(UserError, match=rf"^{tmp_path}/.*: no epoch in metrics.jsonl; put that file back, or remove the"):
        start(trials=1)


@contextmanager
def locked(folder):
    """Holds a run directory, as a process does that trains there: silent, and not dead."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize(("folds", "run"), [(None, "0000"), (2, "0000/fold1")])
def test_a_trial_in_a_locked_folder_waits_and_others_are_run(start, trainings, tmp_path, capsys, folds, run):
    def score(config, epoch):
        if config.augment.cutout == 2:  # the last one that can be run
            process.close()
        return 0.5

    trainings.score = score
    with ExitStack() as process:
        process.enter_context(locked(tmp_path / "trials" / run))
        _, study = start(trials=3, folds=folds)
    assert [cutout for cutout, fold, epoch in trainings.epochs if (fold, epoch) == (0, 1)] == [1, 2, 0]
    assert states(study) == [COMPLETE] * 3


def test_a_trial_whose_folder_is_taken_meanwhile_is_run_later(start, trainings):
    taken = []

    def score(config, epoch):
        if config.augment.cutout == 0 and not taken:
            taken.append(True)
            raise WorkdirLocked("another process is training there")
        return 0.5

    trainings.score = score
    _, study = start(trials=2)
    assert states(study) == [COMPLETE] * 2


def test_a_process_waits_for_the_trials_of_others(start, tmp_path, capsys):
    _, study = start(trials=1)
    database = f"sqlite:///{tmp_path}/study.db"
    study.optuna.enqueue_trial({"augment.cutout": 1}, user_attrs={"trial_index": 1})
    running = optuna.load_study(study_name="s", storage=database).ask()
    running.suggest_int("augment.cutout", 0, 9)

    def other_process_finishes(trial):
        optuna.load_study(study_name="s", storage=database).tell(running.number, 0.7)

    study.trials = 2
    study.run(lambda trial: pytest.fail("trial 1 is running"), wait=other_process_finishes)
    assert values(study) == [0.5, 0.7]
