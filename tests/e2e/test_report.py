import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from jinja2 import Environment, FileSystemLoader
from PIL import Image
from playwright.sync_api import sync_playwright

from cifar_flax import Run
from cifar_flax.analysis.compare.runs import load_results
from cifar_flax.analysis.compare.writers import write_html
from cifar_flax.analysis.predictions import predict_split
from cifar_flax.analysis.report.page import write_report
from cifar_flax.analysis.robustness.accuracy import corruption_accuracy
from cifar_flax.config import DataConfig
from cifar_flax.config.defaults import changed_fields
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import validated
from cifar_flax.data import cache
from cifar_flax.data.loading import load_dataset
from cifar_flax.training.checkpoints.files import saved_steps
from cifar_flax.training.loop import train
from tests.conftest import ROOT, TINY_CONFIG
from tests.e2e.test_commands import one_line
from tests.helpers import forked


@pytest.fixture
def workdir(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def test_evaluate_writes_scores_and_the_report_they_are_in(launch, workdir):
    done = launch("evaluate", f"--run={workdir}", "--split=validation", "--tta=flip")
    assert done.returncode == 0, done.stderr
    scores = json.loads((workdir / "report" / "validation_flip.json").read_text())
    page = (workdir / "report" / "validation_flip.html").read_text()
    assert (scores["split"], scores["tta"], scores["n"]) == ("validation", "flip", 30)
    assert f"run: {scores['top1']:.1%}" + " top-1 on validation" in page
    assert "test-time augmentation flip" in page
    assert str(workdir / "report" / "validation_flip.html") in done.stdout
    assert not (workdir / "report" / "validation.json").exists()  # which is of the plain view


def test_without_report_there_are_the_numbers_alone(launch, workdir):
    assert launch("evaluate", f"--run={workdir}", "--noreport").returncode == 0
    names = {path.name for path in (workdir / "report").iterdir()}
    assert names == {"test.json", "test_confusion.npy", "test_predictions.npz"}


def test_a_truncated_metrics_file_costs_one_line_and_the_rest_is_drawn(launch, workdir):
    path = workdir / "metrics.jsonl"
    path.write_text(path.read_text() + '{"kind": "step", "step": 19, "ep')
    done = launch("evaluate", f"--run={workdir}")
    assert done.returncode == 0
    assert "metrics.jsonl: line 21 cut short or damaged, left out; the other 20 are read" in one_line(done, 0)
    assert (workdir / "report" / "test" / "curve_loss.png").exists()


def test_a_run_without_checkpoint_costs_one_line(launch, workdir):
    shutil.rmtree(workdir / "checkpoints")
    assert "holds no checkpoint yet; has it trained?" in one_line(launch("evaluate", f"--run={workdir}"), 2)
    (workdir / "dataset.json").unlink()
    assert "dataset.json: no such file; is" in one_line(launch("evaluate", f"--run={workdir}"), 2)


@pytest.mark.slow
def test_a_run_that_is_training_is_evaluated_and_goes_on(launch, tiny_cache, tmp_path):
    run = tmp_path / "run"
    command = [ROOT / "launch" / "train.py", f"--config={TINY_CONFIG}", f"--workdir={run}", "--config.train.epochs=100000"]
    training = forked.Popen(command, env={**os.environ, "CIFAR_FLAX_CACHE": str(tiny_cache)})
    try:
        while training.poll() is None and not saved_steps(run):
            time.sleep(0.05)
        done = launch("evaluate", f"--run={run}")
        assert done.returncode == 0, done.stderr
        assert training.poll() is None
    finally:
        training.send_signal(signal.SIGTERM)
    assert training.wait(timeout=600) == 75
    assert "of 100000" in (run / "report" / "test.html").read_text()


def test_a_run_and_its_metrics_open_without_what_trains_or_draws(tiny_run):
    """What takes a while to import is not imported for them."""
    script = (
        "import sys, cifar_flax\n"
        f"assert len(cifar_flax.Run.open({str(tiny_run)!r}).metrics())\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    imported = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split()
    assert "cifar_flax" in imported
    assert {"orbax", "tensorflow", "matplotlib", "jinja2", "sklearn", "optuna", "flask"} & set(imported) == set()


def test_robustness_has_its_split_checkpoint_and_test_time_augmentation_beside_it(launch, workdir):
    asked = ["--split=validation", "--checkpoint=latest", "--tta=flip", "--probe=color", "--noreport"]
    done = launch("evaluate", f"--run={workdir}", *asked)
    assert done.returncode == 0, done.stderr
    colors = json.loads((workdir / "report" / "validation_flip_color.json").read_text())
    scores = json.loads((workdir / "report" / "validation_flip.json").read_text())
    assert (colors["split"], colors["checkpoint"], colors["tta"], colors["n"]) == ("validation", 18, "flip", 30)
    assert colors["clean"] == scores["top1"]


TEMPLATES = Environment(loader=FileSystemLoader(ROOT / "cifar_flax" / "analysis" / "templates"), autoescape=True)
TABLES = TEMPLATES.from_string(
    '{% extends "base.html" %}{% block content %}{% for changed in tables %}{{ fields(changed) }}{% endfor %}{% endblock %}'
)
NUMBERS = TEMPLATES.from_string('{% extends "base.html" %}{% block content %}{{ numbers(table) }}{% endblock %}')
MEASURE = """() => {
  const root = document.documentElement
  const wide = e => e.getBoundingClientRect().right > innerWidth && !e.closest(".wide, .zoom, details:not([open])")
  const cut = e => e.scrollHeight > e.clientHeight || e.scrollWidth > e.clientWidth
  const out = [...document.body.querySelectorAll("*")].filter(wide).concat([...document.querySelectorAll(".zoom")].filter(cut))
  const blank = [...document.images].filter(i => !i.complete || !i.naturalWidth)
  return [root.scrollWidth, out.map(e => e.outerHTML.slice(0, 80)), blank.length, document.images.length]
}"""


@pytest.fixture(scope="module")
def browser(chromium):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def browse(browser, html, width, folder, scheme="light"):
    """Opens a page so wide: (scroll width, what sticks out or is cut off, pictures that do not show, pictures, complaints)."""
    said, page = [], browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
    (folder / "page.html").write_text(html)
    page.goto(f"file://{folder / 'page.html'}")
    page.screenshot(path=folder / "screenshot.png", full_page=True)
    measured = page.evaluate(MEASURE)
    page.close()
    return *measured, said


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 500, 390])
def test_a_report_fits_its_window_fetches_nothing_and_says_nothing(browser, hundred_classes, width, scheme, tmp_path):
    report = hundred_classes / "report"
    scroll_width, sticking_out, blank, pictures, said = browse(
        browser, (report / "test.html").read_text(), width, tmp_path, scheme
    )
    assert (scroll_width, sticking_out, blank, said) == (width, [], 0, [])
    assert pictures == len(list((report / "test").glob("*.png")))
    pixels = np.asarray(Image.open(tmp_path / "screenshot.png").convert("L"))
    values, counts = np.unique(pixels, return_counts=True)
    assert values[counts.argmax()] == {"light": 255, "dark": 0x14}[scheme]  # of the page, and of most charts on it


CUT = """() => {
  document.querySelectorAll("details").forEach(details => details.open = true)
  const tables = [...document.querySelectorAll(".wide")]
  tables.at(-1).querySelectorAll("td.n").forEach(cell => cell.textContent = "100.0")  // as a good network may have
  return [tables.length, tables.filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText.slice(0, 80))]
}"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 900, 500])
def test_no_table_of_a_report_is_cut(browser, hundred_classes, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"file://{hundred_classes / 'report' / 'test.html'}")
    assert page.evaluate(CUT) == [3, []]  # classes, superclasses, corruptions
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_has_a_shade_at_the_edge_beyond_which_it_goes_on(browser, scheme, tmp_path):
    table = {"columns": ["class", *["a column of numbers"] * 9], "rows": [["road", *["1"] * 9]]}
    (tmp_path / "page.html").write_text(NUMBERS.render(title="numbers", table=table))
    page = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme=scheme)
    page.goto(f"file://{tmp_path / 'page.html'}")

    def edges():
        pixels = np.asarray(Image.open(io.BytesIO(page.locator(".wide").screenshot())).convert("L")).astype(int)
        shaded = np.abs(pixels - {"light": 255, "dark": 0x14}[scheme]) > 40
        return [bool(shaded[2:8, columns].mean() > 0.5) for columns in (slice(0, 4), slice(-4, None))]

    assert edges() == [False, True]
    page.evaluate("document.querySelector('.wide').scrollLeft = 200")
    assert edges() == [True, True]
    page.evaluate("document.querySelector('.wide').scrollLeft = 9999")
    assert edges() == [True, False]
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "side_by_side"), [(1280, 2), (500, 1), (390, 1)])
def test_learning_curves_of_a_comparison_are_readable_in_any_window(
    browser, tiny_run, tiny_data, width, side_by_side, scheme, tmp_path
):
    names = ("a", "a run with a name that is longer than a line below the chart of it may be")
    results = load_results([str(shutil.copytree(tiny_run, tmp_path / name)) for name in names], "validation", "best")
    write_html(tmp_path / "compare.html", results, "validation")
    page = (tmp_path / "compare.html").read_text()
    scroll_width, sticking_out, blank, pictures, said = browse(browser, page, width, tmp_path, scheme)
    assert (scroll_width, sticking_out, blank, pictures, said) == (width, [], 0, 2, [])
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto(f"file://{tmp_path / 'compare.html'}")
    places = opened.evaluate(
        "[...document.images].map(i => [i.getBoundingClientRect().top, i.width / i.getAttribute('width')])"
    )
    opened.close()
    tops, scales = zip(*places, strict=True)
    assert min(scales) > 0.9  # of the size that they are drawn for
    assert max(map(tops.count, tops)) == side_by_side


@pytest.mark.slow
def test_the_browser_would_see_what_sticks_out(browser, tmp_path):
    page = """<body><div style="width:500px">wide</div><img src="nothing.png"><script>console.log("said")</script>
    <img src="http://127.0.0.1:9/a.png"></body>"""
    scroll_width, sticking_out, blank, pictures, said = browse(browser, page, 400, tmp_path)
    assert scroll_width > 400
    assert sticking_out[0].startswith("<div")
    assert (blank, pictures) == (2, 2)
    assert {"said", "http://127.0.0.1:9/a.png"} <= set(said)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 801, 400])
def test_the_changed_fields_of_every_config_fit(browser, width, tmp_path):
    configs = [
        f"{path}:{variant}"
        for path in sorted((ROOT / "configs").glob("*.py"))
        for variant in ("", *runpy.run_path(str(path)).get("VARIANTS", ()))
    ]
    tables = [changed_fields(validated(load_config(name.removesuffix(":")))) for name in configs]
    assert len(tables) > 20
    page = TABLES.render(title="fields", tables=tables).replace("</style>", "td { min-width: 9rem }</style>")  # or words break
    scroll_width, sticking_out, *_, said = browse(browser, page, width, tmp_path)
    assert (scroll_width, sticking_out, said) == (width, [], [])


@pytest.fixture(scope="module")
def hundred_classes(shapes100_cache, tmp_path_factory):
    """The report of a network on some of shapes100, trained for one epoch: 100 classes in 20 superclasses, 1,000 test images.

    It has two of the corruptions.
    """
    folder = tmp_path_factory.mktemp("hundred")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", shapes100_cache)
        shapes = {split: load_dataset(DataConfig(name="shapes100"), split).in_memory() for split in ("train", "test")}
        patch.setenv("CIFAR_FLAX_CACHE", str(folder / "cache"))
        cache.write("some", {split: dataset.take(np.arange(0, len(dataset), 5)) for split, dataset in shapes.items()}, "tests")
        config = load_config(str(ROOT / "configs" / "three_conv.py"))
        config.data.name, config.train.epochs = "some", 1
        train(validated(config), folder / "run")
        run = Run.open(folder / "run")
        predictions, dataset = predict_split(run, "test")
        network, report = run.network(predictions.step), run.workdir / "report"
        corruption_accuracy(network, dataset, predictions, report, ["gaussian_noise", "contrast"])
        write_report(run, predictions, dataset, run.score(predictions.logits, predictions.labels))
    return folder / "run"


@pytest.mark.slow
def test_the_report_of_a_hundred_classes_stays_small(hundred_classes):
    report = hundred_classes / "report"
    assert (report / "test.html").stat().st_size < 6e6
    assert (report / "test" / "confusion_coarse.png").exists()
