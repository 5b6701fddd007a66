"""The database that all processes of a search share: opening it, and explaining its errors in one line."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from absl import logging
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from cifar_flax.errors import RunFailed, UserError
from cifar_flax.files.installation import install_command
from cifar_flax.files.redact import reason, redact_passwords

LOCK_SECONDS = 60.0  # how long SQLite waits for the transactions of other processes
OPENING_SECONDS = 8.0  # the same, before the search begins
CONNECTION_ATTEMPTS = 5  # several processes may create the tables at the same moment
ERRORS = (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError, RuntimeError)  # the last: tables of another Optuna


class SharedStorage(RDBStorage):
    """Optuna's storage in a database, where a lost heartbeat ends no thread and no trial runs without a heartbeat."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Tells the other processes that the trial's process is alive. If that fails, the next heartbeat may succeed."""
        try:
            super().record_heartbeat(trial_id)
        except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as e:
            logging.warning("no heartbeat: %s", database_reason(e))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Changes the state of a trial; returns False if another process was first to run it."""
        # Optuna never takes a trial without heartbeats for dead, so the first one precedes the state.
        if state is TrialState.RUNNING:
            self.record_heartbeat(trial_id)
        return super().set_trial_state_values(trial_id, state, values)


def sqlite_url(path: Path) -> str:
    """The URL of a database in a file, for `open_storage`; `?`, `#` and `%` in the path stand for themselves."""
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()


def open_storage(url: str, heartbeat: int, grace: int) -> SharedStorage:
    """Opens the database, and creates Optuna's tables in it where there are none.

    Args:
      url: an SQLAlchemy URL.
      heartbeat: seconds between the heartbeats of a running trial.
      grace: seconds without a heartbeat after which the trial's process is taken for dead.

    Raises:
      UserError: there is no such database, or it refuses the login.
    """
    if url.count("@") > 1:
        raise UserError(f"--storage={redact_passwords(url)}: more than one @; write %40 for those of the user and the password")
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": LOCK_SECONDS, "isolation_level": None}}
    elif url.startswith("postgresql"):
        # Optuna stores heartbeats without their time zone, which must be the same for all clients and all year.
        options["connect_args"] = {"options": "-c TimeZone=UTC"}
    with opening_explained(url):
        if url.startswith("sqlite"):
            _check_unlocked(url)
        storage = _connect(url, options, heartbeat, grace)
    if url.startswith("sqlite"):
        # SQLite has no SELECT FOR UPDATE: unless a transaction takes the lock at its beginning, two processes run one trial.
        sqlalchemy.event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def _check_unlocked(url: str) -> None:
    """Raises if another program holds a lock on the database for longer than transactions of a search take."""
    engine = sqlalchemy.create_engine(url, connect_args={"timeout": OPENING_SECONDS})
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.exec_driver_sql("ROLLBACK")
    finally:
        engine.dispose()


def _connect(url: str, options: dict[str, Any], heartbeat: int, grace: int) -> SharedStorage:
    template = url.replace("{", "{{").replace("}", "}}")  # Optuna formats the URL
    for attempt in range(1, CONNECTION_ATTEMPTS + 1):
        try:
            return SharedStorage(template, options, heartbeat_interval=heartbeat, grace_period=grace)
        except ERRORS as e:
            cause = e.__cause__ or e
            another_was_first = isinstance(cause, sqlalchemy.exc.IntegrityError) or "already exists" in str(cause)
            if attempt == CONNECTION_ATTEMPTS or not another_was_first:
                raise
            time.sleep(0.2)
    raise AssertionError("unreachable")


@contextmanager
def opening_explained(url: str) -> Iterator[None]:
    """Turns the database's errors into a UserError, for use before anything has run."""
    try:
        yield
    except ImportError as e:
        install = install_command("postgresql") if url.startswith("postgresql") else e.__cause__ or e
        raise UserError(f"--storage={redact_passwords(url)}: the database's driver is not installed: {install}") from None
    except (*ERRORS, ValueError) as e:  # the last: a port that is no number
        raise UserError(f"--storage={redact_passwords(url)}: cannot be opened: {database_reason(e)}") from None


@contextmanager
def database_errors_explained() -> Iterator[None]:
    """Turns the database's errors, such as a server that goes away, into a RunFailed."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as e:
        raise RunFailed(f"the search's database: {database_reason(e)}; run the same command to go on") from e


def database_reason(e: Exception) -> str:
    """The database's own message, as one line without passwords."""
    cause = e.__cause__ or e
    return reason(getattr(cause, "orig", None) or cause)
