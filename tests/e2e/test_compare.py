import csv
import statistics

import pytest

from cifar_flax import Run
from tests.conftest import TINY_CONFIG
from tests.e2e.test_commands import one_line


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "RUN RUN...: missing; expected  python"),
        (["a"], "a: expected two run directories or more, all different"),
        (["a", "b"], "a: no such run directory"),
        (["pretrained:fast", "b"], "pretrained:fast: weights alone; expected a run directory"),
        (["a", "b", "--split=tset"], "--split"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(launch, args, expected):
    assert expected in one_line(launch("compare", *args), 2)


@pytest.mark.slow
def test_three_seeds_of_one_config_are_shown_as_mean_sd_and_n(launch, tiny_data, tmp_path):
    train = ["train", f"--config={TINY_CONFIG}", "--config.train.epochs=1"]
    runs = [f"seed{seed}" for seed in range(3)]
    for seed, run in enumerate(runs):
        assert launch(*train, f"--config.seed={seed}", f"--workdir={run}").returncode == 0
    assert launch(*train, "--config.optim.learning_rate=0.01", "--workdir=fast").returncode == 0

    compared = launch("compare", *runs, "fast", "--split=test", "--csv=table.csv", "--html=page.html")
    assert compared.returncode == 0, compared.stderr
    rows = list(csv.DictReader((tmp_path / "table.csv").open(newline="")))
    top1 = [float(row["top1"]) for row in rows[:3]]
    assert top1[0] == Run.open(tmp_path / "seed0").evaluate("test")["top1"]
    cells = [line.split() for line in compared.stdout.splitlines()]
    assert ["1,", "2,", "3", f"{statistics.mean(top1):.2%}", f"{statistics.stdev(top1):.2%}", "3"] in cells
    assert ["seed", "0", "1", "2", "0"] in cells
    assert ["optim.learning_rate", "0.001", "0.001", "0.001", "0.01"] in cells
    assert [row["run"] for row in rows] == [*runs, "fast"]
    assert (tmp_path / "page.html").exists()
    assert "curves: page_loss.png, page_top1.png\n" in compared.stdout
    assert (tmp_path / "page_loss.png").exists()
    assert (tmp_path / "page_top1.png").exists()

    again = launch("compare", *runs, "fast")
    assert "evaluating" not in again.stderr
    assert again.stdout == compared.stdout.partition("\ntable: ")[0] + "\n"
