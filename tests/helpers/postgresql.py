"""A PostgreSQL server for the tests."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psycopg

from cifar_flax.search.study import TRIAL_INDEX

USER, PASSWORD = "searcher", "hush-hush"


def find_binaries():
    """The folder of initdb and postgres, which Debian keeps off the PATH; None without."""
    initdb = shutil.which("initdb")
    return (
        Path(initdb).resolve().parent if initdb else next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1]), None)
    )


class Server:
    """A server with passwords, in a temporary folder and on a free port."""

    def __init__(self, binaries):
        self._binaries, self._process = binaries, None
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # pytest's are closed to other users
        self._as = {}
        if os.geteuid() == 0:  # as which it refuses to run
            account = next(entry for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody"))
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        (self._folder / "password").write_text(PASSWORD)
        for path in (self._folder, self._folder / "password") if self._as else ():
            os.chown(path, self._as["user"], self._as["group"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        login = (f"--username={USER}", f"--pwfile={self._folder / 'password'}", "--auth=scram-sha-256")
        subprocess.run(self._command("initdb", "--no-sync", *login), check=True, stdout=subprocess.DEVNULL, **self._options())

    def start(self):
        settings = ("listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", "fsync=off")
        with (self._folder / "log").open("a") as log:
            flags = (flag for setting in settings for flag in ("-c", setting))
            self._process = subprocess.Popen(self._command("postgres", *flags), stdout=log, stderr=log, **self._options())
        deadline = time.monotonic() + 60
        while True:
            with suppress(psycopg.OperationalError):
                self.execute("SELECT 1")
                return
            log = (self._folder / "log").read_text()
            assert self._process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.1)

    def stop(self):
        """As an operator would who does not wait for the clients to leave."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def remove(self):
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(60)
        shutil.rmtree(self._folder)

    def url(self, database="postgres", password=PASSWORD):
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement, database="postgres"):
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)

    def _command(self, program, *flags):
        return [self._binaries / program, "-D", self._folder / "data", *flags]

    def _options(self):
        return {"cwd": self._folder, "env": {**os.environ, "LC_ALL": "C"}, **self._as}


def attempts(url):
    """How many attempts at each trial are in which state, {(index, state): n}; superfluous ones, without epochs, excluded."""
    endings = f"""
        SELECT trial_index.value_json::int, trials.state::text FROM trials
        JOIN trial_user_attributes trial_index ON trial_index.trial_id = trials.trial_id AND trial_index.key = '{TRIAL_INDEX}'
        WHERE trials.state <> 'FAIL' OR trials.trial_id IN (SELECT trial_id FROM trial_intermediate_values)"""
    return Counter(query(url, endings))


def query(url, statement):
    """What a database answers."""
    with psycopg.connect(url, client_encoding="utf8") as connection:
        return connection.execute(statement).fetchall()
