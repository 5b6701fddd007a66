import json
from pathlib import Path

import pytest

from cifar_flax.training.records import Records, read_records


def write(workdir, step, epochs_done=0):
    return Records(workdir, step, epochs_done)


def fill(workdir):
    records = write(workdir, 0)
    for step in range(1, 7):
        records.append({"kind": "step", "step": step, "epoch": (step + 2) // 3, "loss": 1 / step, "elapsed": float(step)})
        if step % 3 == 0:
            records.append({"kind": "epoch", "step": step, "epoch": step // 3, "train_loss": 0.5, "elapsed": step + 0.5})
    records.close()


def test_a_run_that_goes_on_writes_no_step_twice(tmp_path):
    fill(tmp_path)
    again = write(tmp_path, 4, 1)
    assert again.last["elapsed"] == 4
    again.append({"kind": "step", "step": 5, "epoch": 2, "loss": 0.2})
    again.close()
    assert [(r["kind"], r["step"]) for r in read_records(tmp_path)] == [
        *(("step", step) for step in (1, 2, 3)),
        ("epoch", 3),
        ("step", 4),
        ("step", 5),
    ]


def test_the_last_record_of_an_epoch_has_the_time_that_its_validation_took(tmp_path):
    fill(tmp_path)
    assert write(tmp_path, 6, 2).last["elapsed"] == 6.5


def test_an_epoch_whose_validation_was_lost_is_written_again(tmp_path):
    fill(tmp_path)
    write(tmp_path, 6, 1).close()
    assert [r["step"] for r in read_records(tmp_path) if r["kind"] == "epoch"] == [3]


def test_a_line_cut_short_is_left_out_and_said(tmp_path, caplog):
    fill(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    assert len(read_records(tmp_path)) == 7
    assert "line 8 cut short or damaged, left out; the other 7 are read" in caplog.text


def test_an_epoch_that_is_missing_altogether_is_said_by_the_run_that_goes_on(tmp_path, caplog):
    fill(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    write(tmp_path, 6, 1).close()
    assert not caplog.text
    write(tmp_path, 6, 2).close()
    assert "there are no records of 1 of 2 epochs, the first of them 2" in caplog.text


def test_many_damaged_lines_cost_one_line(tmp_path, caplog):
    fill(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text("{\n[]\n" + path.read_text() + "\x00\n7\n")
    assert len(read_records(tmp_path)) == 8
    assert [record.getMessage().partition("jsonl: ")[2] for record in caplog.records] == [
        "line 1, 2, 11, ... cut short or damaged, left out; the other 8 are read"
    ]


def test_numbers_that_json_does_not_have_become_null(tmp_path):
    records = write(tmp_path, 0)
    records.append({"kind": "step", "step": 1, "epoch": 1, "loss": float("nan"), "grad_norm": float("inf")})
    records.close()
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert line["loss"] is None
    assert line["grad_norm"] is None


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


def test_a_run_without_records_has_none(tmp_path):
    assert read_records(tmp_path) == []


@pytest.mark.parametrize("remove", [Path.unlink, lambda path: path.rename(path.with_name("moved"))], ids=["removed", "moved"])
def test_records_that_are_removed_while_it_trains_are_written_again(tmp_path, caplog, remove):
    fill(tmp_path)
    before = read_records(tmp_path)
    records = write(tmp_path, 6, 2)
    remove(tmp_path / "metrics.jsonl")
    records.append({"kind": "step", "step": 7, "epoch": 3, "loss": 0.1})
    records.close()
    assert read_records(tmp_path) == [*before, {"kind": "step", "step": 7, "epoch": 3, "loss": 0.1}]
    assert "was removed or replaced" in caplog.text
