"""Behaviour that SQLite cannot show: many connections to a real server at the same moment, and the server's messages."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from cifar_flax.errors import RunFailed, UserError
from cifar_flax.search.space import LogUniform, Space
from cifar_flax.search.storage import database_errors_explained
from cifar_flax.search.study import Study, trial_index
from tests.helpers.postgresql import PASSWORD, attempts
from tests.helpers.searching import raise_timeout

WORKERS, TRIALS = 6, 24
SPACE = Space(Path("space.py"), {"rate": LogUniform(1e-4, 1e-1)}, None)


@pytest.mark.slow
def test_workers_that_begin_at_once_run_each_trial_once(database):
    barrier, runs = threading.Barrier(WORKERS), Counter()

    def objective(trial):
        runs[trial_index(trial)] += 1
        return trial.params["rate"]

    def work(_):
        barrier.wait()  # on an empty database
        study = Study(database, "s", SPACE, "random", TRIALS)
        study.run(objective, wait=lambda unfinished: time.sleep(0.1))

    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(work, range(WORKERS)))
    assert runs == dict.fromkeys(range(TRIALS), 1)
    assert {key: n for key, n in attempts(database).items() if key[1] != "FAIL"} == {(i, "COMPLETE"): 1 for i in range(TRIALS)}


def test_heartbeats_survive_a_change_of_the_servers_time_zone(postgresql, database):
    def set_time_zone(zone):
        postgresql.execute(f"ALTER DATABASE {database.rpartition('/')[2]} SET timezone = '{zone}'")

    def objective(trial):
        set_time_zone("Asia/Tokyo")
        with pytest.raises(TimeoutError):
            Study(database, "s", SPACE, "random", 1).run(lambda trial: 0.1, wait=raise_timeout)
        return 0.5

    set_time_zone("America/New_York")
    study = Study(database, "s", SPACE, "random", 1)
    study.run(objective)
    assert [trial.value for trial in study.finished()] == [0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "letmein"}, 'password authentication failed for user "searcher"'),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_a_refused_login_is_quoted_once_without_the_password(postgresql, change, message, monkeypatch):
    logins = []
    connect = psycopg.connect
    monkeypatch.setattr(psycopg, "connect", lambda *args, **options: logins.append(1) or connect(*args, **options))
    with pytest.raises(
        UserError, match=rf"^--storage=postgresql://searcher:\*\*\*@.*: cannot be opened: .*{message}$"
    ) as error:
        Study(postgresql.url(**change), "s", SPACE, "random", 1)
    assert not any(word in str(error.value) for word in ("letmein", PASSWORD))
    assert len(str(error.value).splitlines()) == 1
    assert len(logins) == 1


@pytest.mark.slow
def test_a_trial_survives_a_restart_of_the_server(postgresql, database):
    def objective(trial):
        postgresql.stop()
        try:
            with pytest.raises(RunFailed, match=r"^the search's database: ") as error, database_errors_explained():
                trial.report(0.5, 1)
            assert str(error.value).endswith("; run the same command to go on")
            assert len(str(error.value).splitlines()) == 1
            time.sleep(2)  # heartbeats that get lost
        finally:
            postgresql.start()
        trial.report(0.5, 1)
        time.sleep(7)  # longer than what a silent process is given
        with pytest.raises(TimeoutError):
            Study(database, "s", SPACE, "random", 1, heartbeat=1).run(lambda trial: 0.1, wait=raise_timeout)
        return 0.5

    study = Study(database, "s", SPACE, "random", 1, heartbeat=1)
    study.run(objective)
    assert attempts(database) == {(0, "COMPLETE"): 1}
