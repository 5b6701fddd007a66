import contextlib
import sqlite3
import sys
from pathlib import Path

import pytest

from cifar_flax.errors import RunFailed, UserError
from cifar_flax.search.space import Choice, Space
from cifar_flax.search.storage import database_errors_explained, sqlite_url
from cifar_flax.search.study import Study

SPACE = Space(Path("space.py"), {"name": Choice(("a", "b"))}, None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", r"--storage=nonsense: cannot be opened: Could not parse SQLAlchemy URL"),
        ("oracel://me:secret@host/db", r"oracel://me:\*\*\*@host/db: cannot be opened: Can't load plugin"),
        ("mysql+nothere://me:secret@host/db", "Can't load plugin"),
        ("sqlite:////nonexistent/folder/study.db", "unable to open database file"),
        ("postgresql://me:secret@127.0.0.1:1/db", r"postgresql://me:\*\*\*@127.0.0.1:1/db: .*: Connection refused"),
        ("postgresql://me:a{secret}@127.0.0.1:1/db", r"postgresql://me:\*\*\*@127.0.0.1:1/db: .*: Connection refused"),
        ("postgresql://127.0.0.1:1/db?user=me&password=secret", r"db\?user=me&password=\*\*\*: .*: Connection refused"),
        ("postgresql://me:a@secret@127.0.0.1:1/db", r"postgresql://me:\*\*\*@127.0.0.1:1/db: more than one @; write %40"),
        ("postgresql:/me:secret@127.0.0.1/db", r"postgresql:/me:\*\*\*@127.0.0.1/db: cannot be opened: Could not parse"),
    ],
)
def test_a_database_that_cannot_be_opened_is_reported_in_a_line(url, message):
    with pytest.raises(UserError, match=message) as error:
        Study(url, "s", SPACE, "random", 1)
    assert str(error.value).startswith("--storage=")
    assert "secret" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:secret@host/db", r"pip install -c constraints.txt -e '.\[postgresql\]'"),
        ("mysql+pymysql://me:secret@host/db", "No module named 'pymysql'"),
    ],
)
def test_a_missing_driver_is_named(monkeypatch, url, message):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=rf"//me:\*\*\*@host/db: .*{message}"):
        Study(url, "s", SPACE, "random", 1)


def test_a_database_that_goes_away_is_reported_in_a_line(tmp_path):
    study = Study(f"sqlite:///{tmp_path}/study.db", "s", SPACE, "random", 6)
    (tmp_path / "study.db").write_bytes(b"not a database" * 99)
    with pytest.raises(RunFailed, match=r"^the search's database: \S.*; run the same command"), database_errors_explained():
        study.run(lambda trial: 0.5)


@pytest.mark.parametrize("name", ["plain", "q?x=1", "a#b", "100%", "a%3Fb", "{a} é"])
def test_the_database_is_the_file_that_the_path_names(tmp_path, name):
    (tmp_path / name).mkdir()
    for trials in (1, 2):
        study = Study(sqlite_url(tmp_path / name / "study.db"), "s", SPACE, "random", trials)
        study.run(lambda trial: 0.5)
    assert len(study.finished()) == 2
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [Path(name), Path(name, "study.db")]


def test_a_database_that_another_program_locks_is_said_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr("cifar_flax.search.storage.OPENING_SECONDS", 0.2)
    path = tmp_path / "study.db"
    Study(sqlite_url(path), "s", SPACE, "random", 1)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="cannot be opened: database is locked"):
            Study(sqlite_url(path), "s", SPACE, "random", 1)
    Study(sqlite_url(path), "s", SPACE, "random", 1).run(lambda trial: 0.5)
