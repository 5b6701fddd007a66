"""What SQLite cannot show: many connections to a real server at the same moment, and what it says."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from cifar_flax.errors import RunFailed, UserError
from cifar_flax.search.database import database_errors_explained
from cifar_flax.search.space import LogUniform, Space
from cifar_flax.search.study import Study, slot_of
from tests.postgresql import PASSWORD, attempts

WORKERS, TRIALS = 6, 24
SPACE = Space(Path("space.py"), {"rate": LogUniform(1e-4, 1e-1)}, None)


def at_once(work):
    """Calls `work(number)` in as many threads as there are workers, all at the same moment; returns what they return."""
    barrier = threading.Barrier(WORKERS)

    def begin(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(begin, range(WORKERS)))


def test_workers_that_begin_at_once_on_an_empty_database_make_one_study(database):
    studies = at_once(lambda _: Study(database, "s", SPACE, "random", 1))
    trials = [trial for study in studies if (trial := study.claim())]
    assert len(trials) == 1


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_workers_that_claim_at_once_never_share_a_trial_and_finish_each_once(postgresql, database, isolation):
    name = database.rpartition("/")[2]
    postgresql.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    studies = [Study(database, "s", SPACE, "random", TRIALS) for _ in range(WORKERS)]
    lock, running, claims, shared = threading.Lock(), set(), Counter(), []

    def work(number):
        mine, chance = studies[number], random.Random(number)
        while mine.unfinished():
            if (trial := mine.claim()) is None:
                time.sleep(0.1)
                continue
            slot = slot_of(trial)
            with lock:
                if slot in running:
                    shared.append(slot)
                running.add(slot)
                claims[slot] += 1
            time.sleep(chance.uniform(0, 0.01))
            with lock:
                running.discard(slot)
            if chance.random() < 0.3:
                mine.give_back(trial)
            else:
                assert mine.finish(trial, trial.params["rate"])

    at_once(work)
    assert not shared
    assert sum(claims.values()) > TRIALS, "none was given back"
    assert attempts(database) == {(slot, "COMPLETE"): 1 for slot in range(TRIALS)}


def test_what_two_clients_hold_for_the_time_is_the_same(database, monkeypatch):
    monkeypatch.setenv("PGTZ", "America/New_York")
    there = Study(database, "s", SPACE, "random", 1)
    trial = there.claim()
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    assert Study(database, "s", SPACE, "random", 1).claim() is None, "it was taken for silent for hours"
    assert there.finish(trial, 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "letmein"}, 'password authentication failed for user "searcher"'),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_a_server_that_refuses_a_login_is_asked_once_and_quoted_without_the_password(postgresql, change, said, monkeypatch):
    logins = []
    connect = psycopg.connect
    monkeypatch.setattr(psycopg, "connect", lambda *args, **options: logins.append(1) or connect(*args, **options))
    with pytest.raises(UserError, match=rf"^--storage=postgresql://searcher:\*\*\*@.*: cannot be opened: .*{said}$") as error:
        Study(postgresql.url(**change), "s", SPACE, "random", 1)
    assert error.value.exit_code == 2
    assert not any(word in str(error.value) for word in ("letmein", PASSWORD))
    assert len(str(error.value).splitlines()) == 1
    assert len(logins) == 1


def test_a_user_without_rights_is_told_so(postgresql, database):
    def denied():
        with pytest.raises(UserError, match=r"^--storage=.*: cannot be opened: permission denied for ") as error:
            Study(database.replace("searcher", guest), "s", SPACE, "random", 1)
        return str(error.value).rpartition(" for ")[2]

    name = database.rpartition("/")[2]
    guest = f"guest_{name}"
    postgresql.execute(f"CREATE ROLE {guest} LOGIN PASSWORD '{PASSWORD}'")
    assert denied() == "schema public"
    Study(database, "another", SPACE, "random", 1)
    assert denied().startswith("table ")
    postgresql.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {guest}", name)
    assert denied() == "table studies"


@pytest.mark.slow
def test_a_server_that_is_started_again_is_said_in_a_line_and_the_study_goes_on(postgresql, database):
    study = Study(database, "s", SPACE, "random", 2, heartbeat=1)
    trial = study.claim()
    with study.alive(trial):
        postgresql.stop()
        try:
            with pytest.raises(RunFailed, match=r"^the search's database: ") as error, database_errors_explained():
                trial.report(0.5, 1)
            assert str(error.value).endswith("; run the same command to go on")
            assert len(str(error.value).splitlines()) == 1
            time.sleep(2)  # heartbeats that get lost
            study.give_back(trial)  # which cannot be, and is not what ends the process
        finally:
            postgresql.start()
        trial.report(0.5, 1)
        time.sleep(7)  # longer than what a silent process is given
        assert Study(database, "s", SPACE, "random", 1, heartbeat=1).claim() is None, "it lives"
    assert study.finish(trial, 0.5)
    assert slot_of(study.claim()) == 1
