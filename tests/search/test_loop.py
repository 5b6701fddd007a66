import fcntl
import statistics
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import jax
import optuna
import pytest
from optuna.trial import TrialState

from cifar_flax.config.serialize import read_config
from cifar_flax.errors import Diverged, Preempted, RunFailed, UserError, WorkdirLocked
from cifar_flax.search.space import Space


def values(study):
    return [trial.values and trial.value for trial in study.finished()]


def test_a_trial_is_worth_its_best_epoch(start, trainings):
    trainings.score = lambda config, epoch: config.augment.cutout / 100 + (0.3, 0.6, 0.4)[epoch - 1]
    _, study = start()
    assert values(study) == [0.6, 0.61, 0.62, 0.63]


def test_each_trial_is_a_run_directory_with_its_output(start, capsys):
    search, _ = start(trials=2)
    for slot in (0, 1):
        config = read_config(search.folder(slot) / "config.json")
        assert (config.augment.cutout, config.train.epochs, config.data.folds) == (slot, 3, None)
        assert (search.folder(slot) / "output.txt").read_text() == "the progress of the training\n"
    assert "the progress" not in capsys.readouterr().out


def test_folds_count_by_their_mean_and_standard_deviation(start, trainings):
    scores = {0: 0.5, 1: 0.7, 2: 0.6}
    trainings.score = lambda config, epoch: scores[config.data.fold] + config.augment.cutout / 10
    search, study = start(trials=2, folds=3)
    assert values(study) == [pytest.approx(0.6), pytest.approx(0.7)]
    assert study.finished()[0].user_attrs["sd"] == pytest.approx(statistics.stdev(scores.values()))
    for fold in range(3):
        data = read_config(search.folder(1) / f"fold{fold}" / "config.json").data
        assert (data.folds, data.fold) == (3, fold)


def test_hopeless_trials_end_early_and_others_do_not(start, trainings, capsys):
    trainings.score = lambda config, epoch: 0.1 if config.augment.cutout == 6 else 0.5
    _, study = start(trials=8, prune_from=2)
    assert [trial.state for trial in study.finished()] == [TrialState.COMPLETE] * 6 + [TrialState.PRUNED, TrialState.COMPLETE]
    assert (6, 0, 2) in trainings.epochs
    assert (6, 0, 3) not in trainings.epochs
    assert "trial 6: pruned after epoch 2" in capsys.readouterr().out


def test_nothing_is_pruned_that_has_come_to_its_end(start, trainings):
    trainings.score = lambda config, epoch: 0.1 if config.augment.cutout == 6 else 0.5
    _, study = start(trials=7, prune_from=3)
    assert [trial.state for trial in study.finished()] == [TrialState.COMPLETE] * 7


def test_a_first_fold_at_its_end_is_pruned_where_others_are_to_come(start, trainings):
    trainings.score = lambda config, epoch: 0.1 if config.augment.cutout == 6 else 0.5
    _, study = start(trials=7, folds=2, prune_from=3)
    assert study.finished()[6].state is TrialState.PRUNED
    assert (6, 1, 1) not in trainings.epochs


def test_only_the_first_fold_can_be_pruned(start, trainings):
    trainings.score = lambda config, epoch: 0.1 if (config.augment.cutout, config.data.fold) in ((5, 1), (6, 0)) else 0.5
    _, study = start(trials=7, folds=2, prune_from=1)
    assert [trial.state for trial in study.finished()] == [TrialState.COMPLETE] * 6 + [TrialState.PRUNED]
    assert (6, 1, 1) not in trainings.epochs


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (
            Diverged("the loss is not finite at step 7 (epoch 2); try a lower rate"),
            "the loss is not finite at step 7 (epoch 2)",
        ),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes"), "out of memory"),
        (UserError("config.train.batch_size: 999 is more than"), "config.train.batch_size: 999 is more than"),
    ],
)
def test_a_trial_that_cannot_be_trained_is_finished_and_not_tried_again(start, trainings, error, note):
    def score(config, epoch):
        if (config.augment.cutout, epoch) == (1, 2):
            raise error
        return 0.5

    trainings.score = score
    start(trials=3)
    _, study = start(trials=3)
    failed = study.finished()[1]
    assert (failed.user_attrs["failed"], failed.user_attrs["note"]) == (True, note)
    assert trainings.epochs.count((1, 0, 2)) == 1
    assert len(study.finished()) == 3


def test_a_trial_whose_values_make_no_config_is_finished_and_others_go_on(start, trainings, monkeypatch):
    def configure(space, base, values):
        if values["augment.cutout"] == 1:
            raise UserError("config.optim.weight_decay: adam has none")
        return replace(base, augment=replace(base.augment, cutout=values["augment.cutout"]))

    monkeypatch.setattr(Space, "configure", configure)
    _, study = start(trials=3)
    assert study.finished()[1].user_attrs["note"] == "config.optim.weight_decay: adam has none"
    assert [slot for slot, _, epoch in trainings.epochs if epoch == 1] == [0, 2]


@pytest.mark.parametrize(
    "error", [Preempted("SIGTERM: saved"), KeyboardInterrupt(), UserError("no data"), RuntimeError("a bug")]
)
def test_what_ends_the_process_leaves_the_trial_to_be_gone_on_with(start, trainings, error):
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
    assert trained == Counter((slot, 0, epoch) for slot in range(4) for epoch in (1, 2, 3) if (slot, epoch) != (1, 3))
    assert [trial.state for trial in study.optuna.get_trials()] == [TrialState.COMPLETE] * 4
    assert study.finished()[1].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}


def test_a_full_disk_is_not_the_trials_fault(start, trainings):
    def score(config, epoch):
        raise RunFailed("cannot write a checkpoint") from OSError(28, "No space left on device")

    trainings.score = score
    with pytest.raises(RunFailed):
        start()
    trainings.score = lambda config, epoch: 0.5
    _, study = start()
    assert values(study) == [0.5] * 4


def test_epochs_that_a_killed_process_saved_and_did_not_report_are_reported(start, trainings):
    search, _ = start(trials=1)
    lines = (search.folder(0) / "metrics.jsonl").read_text().splitlines(keepends=True)
    for slot, epochs in ((1, 2), (2, 3)):
        search.folder(slot).mkdir()
        (search.folder(slot) / "metrics.jsonl").write_text("".join(lines[:epochs]))
    _, study = start(trials=3)
    assert study.finished()[1].intermediate_values == {1: 0.5, 2: 0.5, 3: 0.5}
    assert values(study) == [0.5] * 3
    assert trainings.epochs == [(0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 0, 3)]


@contextmanager
def held(folder):
    """What a process does that trains in `folder`: silent, and not dead."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize(("folds", "run"), [(None, "0000"), (2, "0000/fold1")])
def test_a_trial_in_whose_folder_another_process_is_still_at_work_waits_for_it_and_the_others_do_not(
    start, trainings, tmp_path, monkeypatch, capsys, folds, run
):
    def sleep(seconds):
        slept.append([slot for slot, _, _ in trainings.epochs])
        if len(slept) == 3:
            process.close()

    slept = []
    monkeypatch.setattr("cifar_flax.search.loop.time.sleep", sleep)
    with ExitStack() as process:
        process.enter_context(held(tmp_path / "trials" / run))
        _, study = start(trials=3, folds=folds)
    assert len(slept) == 3
    assert all(set(slots) == {1, 2} for slots in slept)
    assert values(study) == [0.5] * 3
    assert [trial.state for trial in study.optuna.get_trials()] == [TrialState.COMPLETE] * 3
    assert capsys.readouterr().out.count("waiting for trials 0: other processes run them, are silent, or have died") == 1


def test_a_process_that_finds_its_folder_taken_gives_the_trial_back_and_goes_on(start, trainings, tmp_path, capsys):
    busy = []

    def score(config, epoch):
        if config.augment.cutout == 0 and not busy:
            busy.append(True)
            raise WorkdirLocked(f"another process is training in {tmp_path}")
        return 0.5

    trainings.score = score
    _, study = start(trials=2)
    assert values(study) == [0.5] * 2
    assert f"trial 0: another process is training in {tmp_path}" in capsys.readouterr().out


def test_a_trial_of_a_silent_machine_is_run_by_another_in_its_own_folder_and_counts_there(start, trainings, tmp_path, capsys):
    other, found = tmp_path / "other", []

    def score(config, epoch):
        if (config.augment.cutout, epoch) == (0, 2) and not other.exists():
            other.mkdir()
            storage = f"sqlite:///{tmp_path}/study.db"
            optuna.load_study(study_name="s", storage=storage)._storage.set_trial_state_values(1, TrialState.FAIL)
            with held(tmp_path / "trials" / "0000"):
                found.extend(start(trials=1, workdir=other))
        return 0.9 if other.exists() else 0.5

    trainings.score = score
    here, study = start(trials=2)
    assert "trial 0: another process has taken it over" in capsys.readouterr().out
    assert [trial.state for trial in study.optuna.get_trials()] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert here.found(study.finished()[0]).endswith(f":{found[0].folder(0)}")
    assert trainings.epochs == [(0, 0, 1), (0, 0, 2), *((0, 0, epoch) for epoch in (1, 2, 3)), *((1, 0, e) for e in (1, 2, 3))]
