"""Measures launch/serve.py: seconds until it is ready, milliseconds an upload, 50 clients at once, memory over many uploads.

    python benchmarks/serving_load.py --run=runs/three_conv-short [--requests=5000] [--figures=FILE]

The server and the clients share the machine. The clients upload three photographs of 640x427 pixels, as JPEG, in turn, and ask
for the pictures that the page shows, as the page does; times without those pictures are taken too.
"""

import contextlib
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from pathlib import Path

from absl import flags

from cifar_flax.runtime import app
from cifar_flax.runtime.command_line import NETWORK

_RUN = flags.DEFINE_string("run", "pretrained:fast", NETWORK)
_RATE = flags.DEFINE_integer("rate", 20, "uploads a second", lower_bound=1)
_SECONDS = flags.DEFINE_integer("seconds", 30, "for which they come at that rate", lower_bound=1)
_CLIENTS = flags.DEFINE_integer("clients", 50, "who upload at once", lower_bound=1)
_REQUESTS = flags.DEFINE_integer("requests", 5000, "over which memory is watched", lower_bound=100)
_FIGURES = flags.DEFINE_string("figures", None, "file for the figures, such as benchmarks/results/serving_load.json")

LONGEST_ANSWER = 10  # seconds that answers may take before further uploads at a rate begin late, for want of a thread
MARK = "----------------a-boundary"
HEAD = f'--{MARK}\r\nContent-Disposition: form-data; name="file"; filename="picture"\r\n\r\n'
PICTURES = (("skimage", "data/rocket.jpg"), ("sklearn", "datasets/images/flower.jpg"), ("sklearn", "datasets/images/china.jpg"))
BODIES = [HEAD.encode() + (files(package) / path).read_bytes() + f"\r\n--{MARK}--\r\n".encode() for package, path in PICTURES]


class Server:
    """`launch/serve.py` in a process of its own, which ends with the context."""

    def __init__(self) -> None:
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent.parent / "launch" / "serve.py"), "--port=0", f"--run={_RUN.value}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        ready = re.search(r"http://([^/]+)/", self._process.stdout.readline())
        if not ready:
            sys.exit("the server did not start")
        self.ready_seconds, self._address = time.perf_counter() - start, ready[1]

    def upload(self, number: int, query: str = "?pictures=true", wanted: Container[int] = (200,)) -> tuple[int, float]:
        """Uploads a picture over a new connection; returns the status of the answer and the milliseconds until it was there."""
        start = time.perf_counter()
        connection = http.client.HTTPConnection(self._address, timeout=60)
        headers = {"Content-Type": f"multipart/form-data; boundary={MARK}"}
        connection.request("POST", f"/api/predict{query}", BODIES[number % len(BODIES)], headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        assert response.status in wanted, response.status
        return response.status, 1000 * (time.perf_counter() - start)

    def megabytes(self) -> float:
        """Resident memory of the server and the processes that decode; memory that they share counts once."""
        kilobytes, processes = 0, [self._process.pid]
        while processes:
            folder = Path(f"/proc/{processes.pop()}")
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it decoded a picture and has ended
                processes += map(int, "".join(task.read_text() for task in folder.glob("task/*/children")).split())
                kilobytes += int(re.findall(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)[0])
        return kilobytes / 1024

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def at_a_rate(upload: Callable[[int], tuple[int, float]], rate: int, seconds: int) -> dict[str, float]:
    """Uploads at a fixed rate, whether or not earlier ones are answered; returns quantiles of the time since each was due."""
    start = time.perf_counter()

    def one(number: int) -> float:
        due = start + number / rate
        time.sleep(max(0, due - time.perf_counter()))
        upload(number)
        return 1000 * (time.perf_counter() - due)

    with ThreadPoolExecutor(LONGEST_ANSWER * rate) as clients:
        taken = sorted(clients.map(one, range(rate * seconds)))
    percentiles = statistics.quantiles(taken, n=100)
    return {"p50_ms": percentiles[49], "p99_ms": percentiles[98], "max_ms": taken[-1]}


def at_once(upload: Callable[[int], tuple[int, float]], clients: int) -> dict[str, object]:
    """Ten uploads by each client, without a pause; counts the answers by status."""
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(upload, range(10 * clients)))
    seconds = time.perf_counter() - start
    counts = Counter(str(status) for status, _ in answers)
    return {"answers": dict(counts), "per_second": len(answers) / seconds, "max_ms": max(ms for _, ms in answers)}


def memory(server: Server, requests: int) -> list[float]:
    """Resident megabytes after 0, 10, ... 100 % of as many uploads by eight clients."""
    megabytes = [server.megabytes()]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            list(pool.map(server.upload, range(requests // 10)))
            megabytes.append(server.megabytes())
    return megabytes


def main() -> None:
    """Takes the figures and prints them."""
    with Server() as server:
        for number in range(50):
            server.upload(number)
        figures = {
            "ready_seconds": server.ready_seconds,
            f"at_{_RATE.value}_per_second": at_a_rate(server.upload, _RATE.value, _SECONDS.value),
            f"at_{_RATE.value}_per_second_without_pictures": at_a_rate(
                partial(server.upload, query=""), _RATE.value, _SECONDS.value
            ),
            f"{_CLIENTS.value}_clients": at_once(partial(server.upload, wanted=(200, 503)), _CLIENTS.value),
            f"megabytes_over_{_REQUESTS.value}_requests": memory(server, _REQUESTS.value),
            "load_average": os.getloadavg(),
            "cpus": os.cpu_count(),
        }
    print(json.dumps(figures, indent=2))
    if _FIGURES.value:
        Path(_FIGURES.value).write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
