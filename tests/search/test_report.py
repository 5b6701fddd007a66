import csv
import shlex
from dataclasses import replace

import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image

from cifar_flax.config import Activation
from cifar_flax.config.fields import with_values
from cifar_flax.config.files import load_config
from cifar_flax.errors import ConfigError, Diverged, RunFailed
from cifar_flax.search import report
from cifar_flax.search.objective import Search
from cifar_flax.search.space import Choice, LogUniform, Space, Uniform
from cifar_flax.search.study import Study
from tests.conftest import ROOT
from tests.search.conftest import Trainings, run_search

QUICKSTART = str(ROOT / "configs" / "quickstart.py")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search of eight trials of three epochs: 3 is the best, 6 is pruned after its second epoch, 7 fails in it."""
    trainings = Trainings()

    def score(config, epoch):
        if config.augment.cutout == 7 and epoch == 2:
            raise Diverged("the loss is not finite; try a lower rate")
        return (0.2, 0.3, 0.4, 0.5, 0.35, 0.45, 0.07, 0.6)[config.augment.cutout] - 0.02 * (epoch - 1)

    trainings.score = score
    return run_search(tmp_path_factory.mktemp("searched"), trainings, trials=8, prune_from=2)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_ranks_all_trials(searched):
    search, study = searched
    rows = read(report.write_table(search, study))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 9)]
    assert [row["trial"] for row in rows] == ["3", "5", "2", "4", "1", "0", "6", "7"]
    assert [row["state"] for row in rows] == ["complete"] * 6 + ["pruned", "failed"]
    assert [float(row["top1"]) for row in rows[:7]] == pytest.approx([0.5, 0.45, 0.4, 0.35, 0.3, 0.2, 0.07])
    assert rows[7]["top1"] == ""
    assert [row["note"] for row in rows[6:]] == ["pruned after epoch 2", "the loss is not finite"]
    for row in rows:
        assert row["augment.cutout"] == row["trial"]
        assert row["run"] == str(search.workdir / "trials" / f"000{row['trial']}")


def test_trials_in_another_machines_folder_are_named_by_the_machine(start, trainings, tmp_path, monkeypatch):
    """Two machines with a database and no folder in common; the other one finds the best."""
    trainings.score = lambda config, epoch: config.augment.cutout / 10
    here, study = start(trials=1)
    with monkeypatch.context() as other_machine:
        other_machine.setattr("socket.gethostname", lambda: "other")
        (tmp_path / "other").mkdir()
        there, _ = start(trials=2, workdir=tmp_path / "other")
    study.trials = 2
    assert [row["run"] for row in read(report.write_table(here, study))] == [f"other:{there.folder(1)}", str(here.folder(0))]
    assert f"best: other:{there.folder(1)}" in report.summarize(here, study, QUICKSTART).splitlines()


@pytest.mark.parametrize("folds", [None, 2])
def test_trials_of_a_folder_that_was_moved_are_named_where_they_are(start, tmp_path, folds):
    before, study = start(trials=2, workdir=tmp_path / "before", folds=folds)
    before.workdir.rename(tmp_path / "after")
    after = replace(before, workdir=tmp_path / "after")
    assert [row["run"] for row in read(report.write_table(after, study))] == [str(after.folder(0)), str(after.folder(1))]


def test_none_is_a_value_in_the_table(start):
    space = Space("space.py", {"optim.clip_norm": Choice((None, 1.0))}, None)
    search, study = start(trials=2, space=space)
    assert [row["optim.clip_norm"] for row in read(report.write_table(search, study))] == ["None", "1.0"]


def test_what_is_printed_names_the_best_and_the_files(searched, monkeypatch):
    search, study = searched
    monkeypatch.setattr(report, "IMPORTANT_TRIALS", 6)
    summary = report.summarize(search, study, QUICKSTART)
    lines = summary.splitlines()
    assert lines[0].split() == ["rank", "trial", "state", "top1", "augment.cutout"]
    assert lines[1].split() == ["1", "3", "complete", "50.00%", "3"]
    assert f"best: {search.folder(3)}" in lines
    for name in ("trials.csv", "parallel_coordinates.png", "importances.png"):
        assert str(search.workdir / name) in summary
    for name in ("parallel_coordinates.png", "importances.png"):
        with Image.open(search.workdir / name) as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("RGB").getcolors(10**6)) > 20


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(1e-5, 1e-1, {"0.0001", "0.001", "0.01"}), (2e-3, 8e-3, {"0.003", "0.006"})]
)
def test_logarithmic_axes_are_labelled_with_numbers(low, high, expected, tmp_path, monkeypatch):
    labels = set()

    def draw(figure, *args, **options):
        figure.canvas.draw()
        labels.update(label.get_text() for axes in figure.axes for label in axes.get_yticklabels(which="both"))

    domains = {"optim.learning_rate": LogUniform(low, high), "augment.width_shift": Uniform(0, 1)}
    search = Search(load_config(QUICKSTART), Space(ROOT / "space.py", domains, None), tmp_path)
    study = Study(f"sqlite:///{tmp_path}/study.db", "s", search.space, "random", 8)
    study.run(lambda trial: 0.5 + trial.params["optim.learning_rate"])
    monkeypatch.setattr(Figure, "savefig", draw)
    report.draw(search, study)
    assert expected <= labels
    assert not [label for label in labels if "$" in label]


def test_one_trial_makes_no_pictures_and_says_so(start):
    search, study = start(trials=1)
    assert report.draw(search, study) == ["no pictures: they take two complete trials, with different values"]
    assert not list(search.workdir.glob("*.png"))


def test_the_best_tenth_of_few_trials_has_nothing_in_common(searched):
    *_, last = report.draw(*searched)
    assert last == "no importances: they take 20 trials that came to an end, and 6 did"


def test_a_search_of_which_every_trial_failed_ends_in_a_line(start, trainings):
    def score(config, epoch):
        raise ConfigError("config.model: this network cannot take 8x8 images")

    trainings.score = score
    search, study = start(trials=2)
    with pytest.raises(RunFailed, match=r"^all 2 trials failed, trial 0 with: config\.model: .* 8x8 images .*trials\.csv\)$"):
        report.summarize(search, study, QUICKSTART)
    assert [row["state"] for row in read(search.workdir / "trials.csv")] == ["failed"] * 2


def test_folds_have_a_column_for_their_standard_deviation(start, trainings):
    trainings.score = lambda config, epoch: 0.4 + 0.2 * config.data.fold
    search, study = start(trials=2, folds=2)
    assert [float(row["sd"]) for row in read(report.write_table(search, study))] == pytest.approx([0.02**0.5] * 2)
    assert report.table(study, ["augment.cutout"]).splitlines()[1].split() == ["1", "0", "complete", "50.00%", "14.14%", "0"]
    assert f"best: {search.folder(0)}" in report.summarize(search, study, QUICKSTART).splitlines()


def test_the_command_names_what_differs_from_the_config_file_and_no_more(searched):
    base = load_config(QUICKSTART)
    base.train.epochs, base.optim.schedule, base.optim.boundaries = 3, "piecewise", (1.5, 2.5)
    domains = {
        "model.activation": Choice((Activation.ELU,)),
        "optim.b2": Uniform(0.1, 0.9),
        "optim.learning_rate": LogUniform(1e-5, 1),
    }
    search = Search(base, Space(ROOT / "space.py", domains, None), ROOT, folds=5)
    trial = searched[1].finished()[0]
    trial.params = {"model.activation": "elu", "optim.b2": 0.123456789012345, "optim.learning_rate": 3e-3}
    words = shlex.split(report.command(search, trial, QUICKSTART))
    assert words[:3] == ["python", "launch/train.py", f"--config={QUICKSTART}"]
    assert sorted(words[3:]) == [
        "--config.model.activation=elu",
        "--config.optim.b2=0.123456789012345",
        "--config.optim.boundaries=(1.5, 2.5)",
        "--config.optim.schedule=piecewise",
        "--config.train.epochs=3",
    ]


def test_the_command_names_another_network_and_optimizer_before_their_fields(searched):
    domains = {
        "optim.learning_rate": LogUniform(1e-5, 1),
        "optim.momentum": Uniform(0, 1),
        "model.preactivation": Choice((True,)),
        "optim.name": Choice(("adam", "sgd")),
        "model.name": Choice(("convnet", "resnet")),
    }
    search = Search(load_config(QUICKSTART), Space(ROOT / "space.py", domains, None), ROOT)
    trial = searched[1].finished()[0]
    trial.params = dict(zip(domains, (3e-3, 0.5, True, "sgd", "resnet"), strict=True))
    words = shlex.split(report.command(search, trial, QUICKSTART))
    assert words[:5] == [
        "python",
        "launch/train.py",
        f"--config={QUICKSTART}",
        "--config.model.name=resnet",
        "--config.optim.name=sgd",
    ]
    values = dict(word.removeprefix("--config.").split("=") for word in words[3:])
    config = with_values(load_config(QUICKSTART), {name: yaml.safe_load(value) for name, value in values.items()})
    assert config == search.config(trial.params)


def test_what_no_flag_can_say_is_pointed_to(searched):
    def drop_a_block(config, values):
        config.model.blocks = config.model.blocks[: values.pop("blocks")]

    search, study = searched
    trial = study.finished()[0]
    trial.params = {"blocks": 2}
    base = load_config(QUICKSTART)
    search = replace(search, base=base, space=Space(ROOT / "space.py", {"blocks": Choice((2, 3))}, drop_a_block))
    assert report.command(search, trial, QUICKSTART).endswith(f"it is {search.folder(0)}/config.json")
