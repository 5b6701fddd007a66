import functools
import http.server
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from tests.conftest import ROOT
from tests.helpers import forked
from tests.helpers.searching import ARGS, LINEAR, SPACE


@pytest.fixture(scope="session")
def chromium():
    """The path of a browser."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no chromium here (Debian: apt-get install chromium)")
    return path


@contextmanager
def serving(*flags, command=(sys.executable, str(ROOT / "launch" / "serve.py")), **where):
    """A running server of the demo; yields its process and its address, and ends it as an operator would."""
    command = [*command, "--port=0", *map(str, flags)]
    server = subprocess.Popen(command, **where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        ready = server.stdout.readline()
        match = re.search(r"ready on (http://\S+/)", ready)
        assert match, ready + server.communicate(timeout=600)[1]
        yield server, match[1]
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=600)
        assert (server.returncode, out, err) == (0, "", "")
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def web(tmp_path):
    """A web server for the files in tmp_path / "web": (folder, address, list of the requests' headers)."""
    folder, seen = tmp_path / "web", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers)
            super().do_GET()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()


@pytest.fixture
def search(tiny_cache, tmp_path):
    """Starts the command in a process of its own, in a folder with a config of a linear classifier and a space for it."""
    (tmp_path / "linear.py").write_text(LINEAR)
    (tmp_path / "space.py").write_text(SPACE)
    processes = []

    def start(*args):
        command = [ROOT / "launch" / "search.py", *ARGS, *args]
        process = forked.Popen(command, cwd=tmp_path, env={**os.environ, "CIFAR_FLAX_CACHE": str(tiny_cache)})
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
