"""Commands in forks of a process that has imported what they import, which takes them two seconds otherwise."""

import multiprocessing
import os
import runpy
import subprocess
import sys

CONTEXT = multiprocessing.get_context("forkserver")
IMPORTED = ["cifar_flax.training.loop", "cifar_flax.run", "cifar_flax.analysis.report.summaries"]
CONTEXT.set_forkserver_preload(IMPORTED)


def run(command, folder, environment, scratch, timeout, errors="strict"):
    """`subprocess.run` for [program, *arguments], a file of Python: its exit code and what it wrote, as text.

    Args:
      scratch: an empty folder for what it writes.
      errors: as `open` takes them.
    """
    out, err = scratch / "stdout", scratch / "stderr"
    process = CONTEXT.Process(target=_run, args=(command, folder, environment, out, err))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(command, timeout)
    texts = [path.read_text(encoding="utf-8", errors=errors) for path in (out, err)]
    return subprocess.CompletedProcess(command, process.exitcode, *texts)


def _run(command, folder, environment, out, err):
    for descriptor, path in enumerate((out, err), 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    os.environ.clear()
    # With large pages it need not start anew, which would be without what is imported.
    os.environ.update(environment, GLIBC_TUNABLES="glibc.malloc.hugetlb=1")
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
