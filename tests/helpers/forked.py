"""Commands in forks of a process that has imported what they import, which takes them seconds otherwise."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
IMPORTED = [
    *("cifar_flax.training.loop", "cifar_flax.run", "cifar_flax.search.study", "cifar_flax.serving.web.app"),
    *("cifar_flax.analysis.report.page", "cifar_flax.analysis.compare.runs"),
]
CONTEXT.set_forkserver_preload(IMPORTED)


class Popen:
    """`subprocess.Popen` for [program, *arguments], a file of Python: what it writes comes as text from `communicate`.

    Variables that Python, JAX and the C library read when they start have no effect.
    """

    def __init__(self, args, cwd=".", env=None, errors="strict"):
        self.args, self._errors = list(map(str, args)), errors
        self._folder = tempfile.TemporaryDirectory()
        self._stdout, self._stderr = (Path(self._folder.name, name) for name in ("stdout", "stderr"))
        for path in (self._stdout, self._stderr):
            path.touch()
        where = os.path.abspath(cwd), env or dict(os.environ), self._stdout, self._stderr
        self._process = CONTEXT.Process(target=_run, args=(self.args, *where))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def lines(self):
        """What it writes to stdout, a line at a time, until it has ended."""
        with self._stdout.open(encoding="utf-8", errors=self._errors) as file:
            line = ""
            while True:
                ended = self.poll() is not None
                line += file.readline()
                if line.endswith("\n"):
                    yield line
                    line = ""
                elif ended:
                    return
                else:
                    time.sleep(0.01)

    def communicate(self, timeout=None):
        self.wait(timeout)
        return tuple(path.read_text(encoding="utf-8", errors=self._errors) for path in (self._stdout, self._stderr))


def run(args, timeout=600, **options):
    """Runs it to its end, as `subprocess.run` does."""
    process = Popen(args, **options)
    try:
        return subprocess.CompletedProcess(process.args, process.wait(timeout), *process.communicate())
    finally:
        process.kill()


def _run(args, folder, environment, stdout, stderr):
    for descriptor, path in enumerate((stdout, stderr), 1):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    os.chdir(folder)
    os.environ.clear()
    # With large pages it need not start anew, which would be without what is imported.
    os.environ.update(environment, GLIBC_TUNABLES="glibc.malloc.hugetlb=1")
    sys.argv = args
    runpy.run_path(args[0], run_name="__main__")
