"""What tests ask of a run directory, also while another process trains in it."""

import time

from cifar_flax.training.records import TIMES, read_records


def records_without_times(workdir):
    return [{name: value for name, value in record.items() if name not in TIMES} for record in read_records(workdir)]


def wait_for_step(workdir, step, *processes):
    """Waits until `step` is recorded by processes, none of which may end before."""
    deadline, file = time.monotonic() + 600, workdir / "metrics.jsonl"
    while not (file.exists() and f'"step": {step},' in file.read_text()):
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
