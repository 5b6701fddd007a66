import csv
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.postgresql import attempts, query
from tests.helpers.runs import wait_for_step
from tests.helpers.searching import STEPS, assert_complete, records

TRIALS = 8
FINISHED = """
    SELECT trial_index.value_json::int, folder.value_json::json #>> '{}', trial_values.value FROM trials
    JOIN trial_user_attributes trial_index ON trial_index.trial_id = trials.trial_id AND trial_index.key = 'trial_index'
    JOIN trial_user_attributes folder ON folder.trial_id = trials.trial_id AND folder.key = 'folder'
    JOIN trial_values ON trial_values.trial_id = trials.trial_id"""


def kill_amid_a_trial(process, trials):
    """Kills a process in the third epoch of its first trial, and returns which that was."""
    begun = (int(match[1]) for line in process.lines() if (match := re.match(r"trial (\d+): optim", line)))
    index = next(begun, None)
    assert index is not None, process.communicate()
    wait_for_step(trials / f"{index:04d}", 2 * STEPS + 1, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    return index


@pytest.mark.slow
def test_a_search_on_two_machines_survives_a_death_on_each(search, database, tmp_path):
    machines = tmp_path / "a", tmp_path / "b"  # two processes each; of the machines' folders the other sees nothing
    flags = (f"--trials={TRIALS}", "--noprune", f"--storage={database}", "--heartbeat=2")
    processes = [search(*flags, f"--workdir={workdir}") for workdir in machines for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        killed = list(threads.map(kill_amid_a_trial, processes[::2], [workdir / "trials" for workdir in machines]))
    for process in processes[1::2]:
        _, stderr = process.communicate(timeout=500)
        assert process.returncode == 0, stderr

    complete = {(index, "COMPLETE"): 1 for index in range(TRIALS)}
    assert attempts(database) == complete | {(index, "FAIL"): 1 for index in killed}
    finished = {index: (Path(folder), value) for index, folder, value in query(database, FINISHED)}
    assert sorted(finished) == list(range(TRIALS))
    for folder, value in finished.values():
        assert_complete(folder, STEPS)
        assert max(record["validation_top1"] for record in records(folder) if record["kind"] == "epoch") == value

    for workdir in machines:
        with (workdir / "trials.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {int(row["trial"]): float(row["top1"]) for row in rows} == {
            index: value for index, (_, value) in finished.items()
        }
        for row in rows:
            folder = finished[int(row["trial"])][0]
            assert row["run"] == str(folder) if workdir in folder.parents else row["run"].endswith(f":{folder}")


@pytest.mark.slow
def test_a_search_whose_server_goes_away_ends_in_a_line_and_resumes(search, postgresql, database, tmp_path):
    flags = ("--trials=2", f"--storage={database}")
    first = search(*flags)
    wait_for_step(tmp_path / "search" / "trials" / "0000", 2 * STEPS + 1, first)
    postgresql.stop()
    try:
        _, stderr = first.communicate(timeout=600)
    finally:
        postgresql.start()
    assert first.returncode == 1
    *beats, last = stderr.splitlines()
    assert re.fullmatch(r"the search's database: \S.*; run the same command to go on", last), stderr
    assert all(line.startswith("no heartbeat: ") for line in beats), stderr

    second = search(*flags)
    _, stderr = second.communicate(timeout=500)
    assert second.returncode == 0, stderr
    assert attempts(database) == {(0, "FAIL"): 1, (0, "COMPLETE"): 1, (1, "COMPLETE"): 1}
    for index in range(2):
        assert_complete(tmp_path / "search" / "trials" / f"{index:04d}", STEPS)
