"""The database that all processes of a search share: opening it, and what is said where that fails or it goes away."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage

from cifar_flax.errors import RunFailed, UserError
from cifar_flax.files.redact import redact_passwords

LOCK_SECONDS = 60.0  # for which SQLite waits for other processes
OPENINGS = 5  # tries to open a database, while other processes may be making its tables
ERRORS = (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError)


@contextmanager
def database_errors_explained() -> Iterator[None]:
    """A context in which the database's own errors become a RunFailed, such as when its server goes away."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as e:
        raise RunFailed(f"the search's database: {reason(e)}; run the same command to go on") from e


@contextmanager
def opening_explained(url: str) -> Iterator[None]:
    """A context in which they become a UserError, for before anything has run."""
    try:
        yield
    except (*ERRORS, RuntimeError) as e:  # the last where the tables are of another Optuna
        raise UserError(f"--storage={redact_passwords(url)}: cannot be opened: {reason(e)}") from None


def reason(e: Exception) -> str:
    """What the database itself said, in a line."""
    cause = e.__cause__ or e
    return redact_passwords(str(getattr(cause, "orig", None) or cause).splitlines()[0])


def open_storage(url: str, heartbeat: int, grace: int) -> RDBStorage:
    """Opens the database, and makes Optuna's tables in it if there are none.

    Args:
      url: SQLAlchemy's.
      heartbeat: seconds between signs of life of a running trial.
      grace: seconds without one after which the trial's process is taken for dead.

    Raises:
      UserError: there is no such database, or it refuses the login.
    """
    kind = _kind(url)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if kind == "sqlite":
        options = {"connect_args": {"timeout": LOCK_SECONDS, "isolation_level": None}}
    elif kind == "postgresql":
        options["isolation_level"] = "READ COMMITTED"  # above it, whoever comes second to a row gets an error, not the row
        options["connect_args"] = {"client_encoding": "utf8"}  # text of a server made without a locale would come as bytes
    with opening_explained(url):
        storage = _open(url, kind, options, heartbeat, grace)
    if kind == "sqlite":
        # SQLite knows no SELECT FOR UPDATE: a transaction that reads before it writes must hold the lock from its beginning, or
        # two processes take the same trial.
        sqlalchemy.event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    elif kind == "postgresql":
        sqlalchemy.event.listen(storage.engine, "connect", _use_utc)
        storage.engine.dispose()  # of the connections that are open already
    return storage


def _open(url: str, kind: str, options: dict[str, Any], heartbeat: int, grace: int) -> RDBStorage:
    template = url.replace("{", "{{").replace("}", "}}")  # for which Optuna takes it
    for opening in range(1, OPENINGS + 1):
        try:
            return RDBStorage(template, options, heartbeat_interval=heartbeat, grace_period=grace)
        except ImportError as e:
            named = f"pip install {e.__cause__.name}" if isinstance(e.__cause__, ImportError) else str(e)
            driver = "pip install -c constraints.txt -e '.[postgresql]'" if kind == "postgresql" else named
            raise UserError(f"--storage={redact_passwords(url)}: the database's driver is not installed: {driver}") from None
        except ERRORS as e:
            if opening == OPENINGS or not _another_was_first(e, kind):
                raise
            time.sleep(0.2)
    raise AssertionError("unreachable")


def _another_was_first(e: Exception, kind: str) -> bool:
    """Whether it may be that another process has made the same tables at the same moment."""
    cause = e.__cause__ if isinstance(e.__cause__, sqlalchemy.exc.SQLAlchemyError) else e
    # What a server means by an operational error is that one cannot log in, which is not to be tried in a row.
    said_so = (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError)
    return isinstance(cause, (*said_so, sqlalchemy.exc.OperationalError) if kind == "sqlite" else said_so)


def _use_utc(connection: Any, record: object) -> None:
    # Optuna stores the times of heartbeats without their zone, which is the client's or else the server's: where two clients
    # differ, or when the server's summer time begins, all running trials would be an hour without a sign of life.
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
    connection.commit()


def _kind(url: str) -> str:
    """The kind of database that a URL names."""
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        parsed = None
    if parsed is None or "@" in (parsed.host or ""):
        raise UserError(
            f"--storage={redact_passwords(url)}: not a URL; expected KIND://USER:PASSWORD@HOST:PORT/DATABASE, "
            "with %40 for an @ in the password and %25 for a %"
        )
    return parsed.get_backend_name()
