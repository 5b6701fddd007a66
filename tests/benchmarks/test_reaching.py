import jax
import pytest

from benchmarks.reaching import Reached, compilation_recorded, reached, read_compilation

EPOCHS = [
    {"epoch": epoch, "elapsed": 100.0 * epoch, "validation_top1": top1} for epoch, top1 in enumerate((0.3, 0.66, 0.64, 0.7), 1)
]


def never():
    raise AssertionError("test is not opened where there is validation")


def test_the_first_epoch_that_reaches_it_counts():
    found = reached(0.65, EPOCHS, {1: 20.0, 2: 5.0, 3: 40.0}, never)
    assert found == Reached(epoch=2, top1=0.66, elapsed=200.0, compilation=25.0)
    assert found.seconds == 175
    assert reached(0.71, EPOCHS, {}, never) is None


def test_without_validation_it_is_the_last_checkpoint_on_test():
    epochs = [{"epoch": record["epoch"], "elapsed": record["elapsed"]} for record in EPOCHS]
    assert reached(0.65, epochs, {1: 20.0, 4: 1.0}, lambda: 0.65) == Reached(4, 0.65, 400.0, 21.0)
    assert reached(0.65, epochs, {}, lambda: 0.649) is None


def test_compilation_of_the_steps_is_told_apart(tmp_path):
    with compilation_recorded(tmp_path) as after_epoch:

        @jax.jit
        def train_step(x):
            return x + 1

        @jax.jit
        def something_else(x):
            return x + 2

        something_else(1.0)
        after_epoch(1, {})
        train_step(1.0)
        after_epoch(2, {})
        train_step(1.0)
        after_epoch(3, {})
        train_step(1)  # another type: another program
        after_epoch(2, {})  # a run that was killed goes through the epoch again
    train_step(True)
    found = read_compilation(tmp_path)
    assert list(found) == [1, 2, 3]
    assert found[1] == found[3] == 0
    lines = (tmp_path / "compilation.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert found[2] > 0
    assert str(found[2]) in lines[3]


def test_a_run_of_which_nothing_was_recorded(tmp_path):
    assert read_compilation(tmp_path) == {}
    assert reached(0.3, EPOCHS, {}, never).seconds == pytest.approx(100)
