import csv
import io
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import threading

import numpy as np
import pytest
from PIL import Image

from benchmarks.photographs import PHOTOGRAPHS
from cifar_flax.export.huggingface import write_folder
from cifar_flax.pretrained.weights import write_weights
from cifar_flax.run import load_network
from cifar_flax.runtime.flag_values import KernelDtype
from tests.conftest import ROOT
from tests.helpers.terminal import read


def save(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)


def test_a_folder_becomes_json_lines_and_what_cannot_be_read_is_named(launch, tiny_run, tmp_path):
    for k in range(3):
        save(tmp_path / "pictures" / f"{k}.png", k)
    (tmp_path / "pictures" / "broken.png").write_bytes(b"nothing")
    result = launch("predict", "pictures", f"--run={tiny_run}", "--json", "--top=3", "none.png")
    assert result.returncode == 1
    broken, none = result.stderr.splitlines()
    assert broken.startswith("skipped pictures/broken.png: ")
    assert none == "skipped none.png: No such file or directory"
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["image"] for line in lines] == ["pictures/0.png", "pictures/1.png", "pictures/2.png"]
    network = load_network(tiny_run)
    for line in lines:
        actual = [(p["class"], p["superclass"], p["probability"]) for p in line["predictions"]]
        assert actual == [tuple(p) for p in network.predict(tmp_path / line["image"], top=3)]


@pytest.mark.slow
def test_the_network_is_the_bundled_one_or_whatever_run_names(launch, tiny_run, tmp_path):
    network = load_network(tiny_run)
    write_weights(tmp_path / "net.safetensors", network)
    write_folder(tmp_path / "net", network, KernelDtype.FLOAT32)
    save(tmp_path / "a.png")

    def first_class(*flags):
        done = launch("predict", "a.png", "--csv", "--top=1", *flags)
        assert done.returncode == 0, done.stderr
        return next(csv.DictReader(io.StringIO(done.stdout)))["class"]

    expected = network.predict(tmp_path / "a.png")[0].name
    assert first_class("--run=net.safetensors") == first_class("--run=net") == expected
    assert first_class() == first_class("--run=pretrained:fast") == load_network("fast").predict(tmp_path / "a.png")[0].name


def test_photographs_get_a_table_for_eyes_and_a_csv_for_programs(launch, tiny_run, tmp_path):
    assert len(PHOTOGRAPHS) >= 5
    for k, photograph in enumerate(PHOTOGRAPHS):
        (tmp_path / f"{k}.jpg").write_bytes(photograph.read())  # whatever format it has
    table = launch("predict", *(f"{k}.jpg" for k in range(len(PHOTOGRAPHS))), f"--run={tiny_run}", "--fit=pad", "--flip")
    assert (table.returncode, table.stderr) == (0, "")
    blocks = table.stdout.rstrip().split("\n\n")
    assert len(blocks) == len(PHOTOGRAPHS)
    for k, block in enumerate(blocks):
        name, *bars = block.splitlines()
        assert name == f"{k}.jpg"
        assert len(bars) == 5
        assert all("line " in line and "%" in line for line in bars)
    rows = launch("predict", "0.jpg", "1.jpg", f"--run={tiny_run}", "--fit=pad", "--flip", "--csv", "--top=1")
    first = load_network(tiny_run).predict(tmp_path / "0.jpg", fit="pad", flip=True)[0]
    actual = list(csv.DictReader(io.StringIO(rows.stdout)))
    assert [row["image"] for row in actual] == ["0.jpg", "1.jpg"]
    assert (actual[0]["class"], float(actual[0]["probability"])) == (first.name, first.probability)


def test_names_that_are_no_text_come_through(launch, tiny_run, tmp_path):
    name = os.fsdecode(b"pictures/\xff\x1b[2J.png")
    save(tmp_path / name)
    (tmp_path / "pictures" / "\x1b[2J.png").write_bytes(b"nothing")
    csv_, json_, table = (
        launch("predict", "pictures", f"--run={tiny_run}", "--top=1", *form, errors="surrogateescape")
        for form in (["--csv"], ["--json"], [])
    )
    assert [row["image"] for row in csv.DictReader(io.StringIO(csv_.stdout))] == [name]
    assert json.loads(json_.stdout)["image"] == name
    assert table.stdout.startswith("pictures/\\udcff\\x1b[2J.png\n")
    assert table.stderr.startswith("skipped pictures/\\x1b[2J.png: ")


@pytest.fixture
def foreground():
    """Has what a test starts heed SIGINT, which a shell has its background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("foreground")
def test_ctrl_c_ends_it_without_a_word(tiny_run):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        command = [sys.executable, str(ROOT / "launch" / "predict.py"), f"--run={tiny_run}", "--allow_private", *[url] * 4000]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        silent.settimeout(60)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        # one fetch may take 10 s, and those that have not begun do not begin: all 4,000 would outlast this patience
        assert process.communicate(timeout=600) == (b"", b"")
        connection.close()
    assert process.returncode == 130


def test_addresses_of_private_networks_take_a_flag(launch, tiny_run, tmp_path, web):
    folder, address, _ = web
    save(folder / "a.png")
    refused = launch("predict", f"{address}/a.png", f"--run={tiny_run}")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"skipped {address}/a.png: ")
    assert refused.stderr.count("\n") == 1
    allowed = launch("predict", f"{address}/a.png", f"--run={tiny_run}", "--json", "--allow_private")
    assert allowed.returncode == 0, allowed.stderr
    best = load_network(tiny_run).predict(folder / "a.png")[0]
    assert json.loads(allowed.stdout)["predictions"][0]["class"] == best.name


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--run=x"], "IMAGE|FOLDER|URL...: missing"),
        (["a.png", "--run=nowhere"], "nowhere: no such network; expected a run directory, a .safetensors file"),
        (["a.png", "--run=pretrained:nonsense"], "no pretrained network 'nonsense'; expected one of"),
        (["a.png", "--run=none.safetensors"], "none.safetensors: no such file"),
        (["a.png", "--run=hf:nonsense"], "hf:nonsense: expected hf:USER/NAME"),
        (["a.png", "--run=x", "--json", "--csv"], "--json and --csv: expected one of them"),
        (["a.png", "--run=x", "--fit=stretch"], "--fit=stretch: value should be one of <crop|squash|pad>"),
        (["a.png", "--run=x", "--top=0"], "--top"),
        (["a.png", "--ruin=x"], "--ruin: no such flag. Did you mean --run?"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(launch, args, expected):
    result = launch("predict", *args)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr


@pytest.mark.slow
def test_a_thousand_pictures_in_one_go_with_a_bar_for_who_looks_on(tiny_run, tmp_path):
    for k in range(1000):
        save(tmp_path / "pictures" / f"{k:03}.png", k)
    (controller, terminal), shown = pty.openpty(), []
    termios.tcsetwinsize(terminal, (24, 100))
    command = [sys.executable, str(ROOT / "launch" / "predict.py"), f"--run={tiny_run}", "--csv", "--top=1", "pictures"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal, text=True) as process:
        os.close(terminal)
        bar = threading.Thread(target=lambda: shown.extend(iter(lambda: read(controller), b"")))
        bar.start()
        out = process.stdout.read()
    bar.join()
    os.close(controller)
    assert process.returncode == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["image"] for row in rows] == [f"pictures/{k:03}.png" for k in range(1000)]
    assert "/1000" in b"".join(shown).decode()


def test_a_reader_that_goes_away_is_no_error(tiny_run, tmp_path):
    for k in range(40):
        save(tmp_path / "pictures" / f"{k}.png", k)
    command = (
        f"'{sys.executable}' '{ROOT}/launch/predict.py' --run='{tiny_run}' --top=10 pictures pictures pictures | head -n 1"
    )
    result = subprocess.run(["bash", "-c", command], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (result.stdout, result.stderr) == ("pictures/0.png\n", "")
