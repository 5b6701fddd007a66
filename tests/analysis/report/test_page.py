import base64
import dataclasses
import io
import re
import shutil
from html.parser import HTMLParser

import jax
import pytest
from PIL import Image

from cifar_flax import Run
from cifar_flax.analysis.predictions import predict_split
from cifar_flax.analysis.report.page import SECTIONS, environment_rows, write_report
from cifar_flax.analysis.robustness import accuracy
from cifar_flax.evaluation.calibration import UNCALIBRATED
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from cifar_flax.models import DenseConfig
from tests.analysis.conftest import train_tiny

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """The elements of a page; fails where one is not closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text, self.cells = [], [], "", set()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data
        if self.open and self.open[-1] == "td":
            self.cells.add(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def report_of(run, tmp_path, names=None, **preprocessing):
    """Writes the report of a run, whose classes are renamed after it was evaluated, into a copy of its folder.

    Returns the page and the folder of its pictures.
    """
    workdir = tmp_path / "copy"
    if not workdir.exists():
        shutil.copytree(run.workdir, workdir)
    run = Run(workdir, run.config, dataclasses.replace(run.preprocessing, **preprocessing))
    predictions, dataset = predict_split(run, "test")
    run = Run(workdir, run.config, dataclasses.replace(run.preprocessing, **(names or {})))
    dataset = dataclasses.replace(dataset, class_names=run.class_names)
    path = write_report(run, predictions, dataset, run.score(predictions.logits, predictions.labels))
    return Page(path.read_text()), path.parent / path.stem


def test_pictures_that_a_page_no_longer_has_are_removed(tiny_workdir, tiny_data, tmp_path):
    _, folder = report_of(Run.open(tiny_workdir), tmp_path)
    (folder / "corruptions.png").write_bytes(b"of an earlier evaluation")
    (folder / "notes.txt").write_bytes(b"of the user")
    before = {path.name for path in folder.iterdir()}
    report_of(Run.open(tiny_workdir), tmp_path)
    assert {path.name for path in folder.iterdir()} == before - {"corruptions.png"}


@pytest.fixture(scope="module")
def report(tiny_workdir, tiny_cache, tmp_path_factory):
    """The page on a run and the folder of its pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        return report_of(Run.open(tiny_workdir), tmp_path_factory.mktemp("report"))


def test_a_report_has_every_section_and_each_picture_as_a_file_too(report):
    page, folder = report
    asked_for = {"corruptions", "color"}  # which this report was not
    assert {attrs["id"] for attrs in page.all("h2")} == {name for name, _ in SECTIONS} - asked_for
    assert {attrs["href"].removeprefix("#") for attrs in page.all("a")} == {name for name, _ in SECTIONS} - asked_for
    sources = [attrs["src"] for attrs in page.all("img")]
    inline = [base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True) for source in sources]
    assert set(inline) == {path.read_bytes() for path in folder.glob("*.png")}
    for attrs, content in zip(page.all("img"), inline, strict=True):
        width, height = Image.open(io.BytesIO(content)).size
        assert width / height == pytest.approx(int(attrs["width"]) / int(attrs["height"]), rel=0.02)
        assert attrs["alt"]
    names = {path.stem for path in folder.glob("*.png")}
    expected = {"topk", "curve_loss", "curve_top1", "confusion", "classes", "reliability", "filters", "architecture_1"}
    examples = {"pair_01", "pair_01_others", "mistake_01", "mistake_01_evidence", "activations_image", "activations_01"}
    assert expected | examples | {"coverage", "curve_learning_rate"} <= names
    assert "confusion_coarse" not in names  # no superclasses
    assert "the network branches" not in page.text


def test_a_report_fetches_nothing(report):
    page, folder = report
    for tag, attrs in page.elements:
        assert tag not in ("script", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "action"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    assert not re.search(r"url\(|@import|https?:", folder.with_suffix(".html").read_text())


def test_the_numbers_of_a_report_are_the_scores(report, run):
    page, _ = report
    scores = run.evaluate("test")
    for name in ("top1", "top5", "macro_f1"):
        assert f"{scores[name]:.1%}" in page.text
    assert f"{sum(leaf.size for leaf in jax.tree.leaves(run.params())):,}" in page.text
    assert "averaged weights (EMA)" in page.text
    summary = page.text.partition("complete config")[0]
    assert "augment.crop_padding" in summary  # set by tiny.py
    assert "data.image_size" not in summary  # left at its default


def test_names_are_escaped_and_earlier_processes_counted(run, tmp_path):
    workdir = shutil.copytree(run.workdir, tmp_path / "copy")
    environment = read_checksummed(workdir / "environment.json")
    (workdir / "environment.json").write_text(dumps_checksummed({**environment, "earlier": [environment] * 2}))
    names = (
        "<script>alert(1)</script>",
        "a & b",
        '"quoted"',
        "$x^2$ $",
        "猫",
        "x" * 200,
        "é\\n",
        "{{ 7*7 }}",
        "",
        "<img src=x>",
    )
    superclasses = {"coarse_names": ("<i>even", "odd"), "coarse_of_fine": (0, 1) * 5}
    page, folder = report_of(run, tmp_path, {"class_names": names, **superclasses})
    assert (folder / "confusion_coarse.png").exists()
    assert "all 2 superclasses" in page.text
    assert not page.all("script") + page.all("i")
    assert all(attrs["src"].startswith("data:") for attrs in page.all("img"))
    assert {name for name in names if name} <= page.cells
    lines = [" ".join(line.split()) for line in page.text.split("Environment")[-1].splitlines()]
    assert "earlier processes2" in lines
    assert not [line for line in lines if line.startswith("config")], "it has a part of the page of its own"


def test_classes_are_named_as_people_write_them(run, tmp_path):
    names = {"class_names": tuple(f"a_tree_{i}" for i in range(10)), "coarse_names": ("large_trees", "small_trees")}
    page, _ = report_of(run, tmp_path, {**names, "coarse_of_fine": (0, 1) * 5})
    assert {"a tree 0", "a tree 9", "large trees"} <= page.cells
    everything = page.text + " ".join(attrs["alt"] for attrs in page.all("img"))
    assert " a tree " in everything
    assert "a_tree" not in everything
    assert "large_trees" not in everything


def test_a_report_has_validation_scores_of_ema_and_raw_weights(run, tmp_path, monkeypatch):
    metrics = Run.metrics
    monkeypatch.setattr(Run, "metrics", lambda run: metrics(run).assign(validation_raw_top1=0.123, validation_raw_loss=2.5))
    page, _ = report_of(run, tmp_path)
    best = metrics(run).query("kind == 'epoch'").validation_top1.iloc[-1]
    facts = " ".join(page.text.split())
    assert f"validation, EMA weights {best:.1%}" in facts
    assert "validation, raw weights 12.3%" in facts


def test_a_dense_network_without_validation_or_ema_has_a_report(tiny_data, tmp_path):
    settings = {"data_validation_fraction": 0.0, "model_blocks": (), "model_dense": (DenseConfig(70),), "optim_ema_decay": None}
    workdir = train_tiny(tmp_path / "mlp", **settings)
    page, folder = report_of(Run.open(workdir), tmp_path)
    assert "held out no images for validation" in page.text
    assert "the run held out no validation images, and calibrate has not been run" in page.text
    assert "EMA" not in page.text
    assert (folder / "filters.png").exists()


def test_a_report_says_no_more_than_there_is_to_say(run, tmp_path):
    """Of a class without images, and of a checkpoint without a temperature."""
    predictions, dataset = predict_split(run, "test")
    scores = run.score(predictions.logits, predictions.labels)
    scores["per_class"]["line_3"] = {"accuracy": 0.0, "precision": 0.0, "f1": 0.0, "support": 0}
    run = Run(shutil.copytree(run.workdir, tmp_path / "copy"), run.config, run.preprocessing)
    run.network(predictions.step).calibration = UNCALIBRATED
    html = write_report(run, predictions, dataset, scores).read_text()
    *_, last = re.findall(r"<tr><td>line (.*?)</tr>", html)
    assert re.sub("<.*?>", " ", last).split() == ["3", "-", "-", "-", "0"]
    assert "No temperature has been fitted to this checkpoint" in html


def test_a_report_says_that_a_run_diverged_and_lacks_records(run, tmp_path):
    workdir = shutil.copytree(run.workdir, tmp_path / "copy")
    (workdir / "metrics.jsonl").unlink()
    (workdir / "environment.json").write_text("{")
    page, folder = report_of(run, tmp_path, std=(0.0, 0.0, 0.0))  # divided by which, all logits are NaN
    assert "the network has diverged" in page.text
    assert not [*folder.glob("mistake_*"), *folder.glob("pair_*")]
    assert "No epoch is recorded" in page.text
    assert "environment.json is missing or damaged" in page.text


def test_a_report_has_the_scores_on_corrupted_and_colourless_images_that_exist(run, tmp_path):
    workdir = shutil.copytree(run.workdir, tmp_path / "copy")
    predictions, dataset = predict_split(run, "test")
    network, folder = run.network(predictions.step), workdir / "report"
    corrupted = accuracy.corruption_accuracy(network, dataset, predictions, folder, ["contrast"])
    colors = accuracy.color_accuracy(network, dataset, predictions, folder)
    page, pictures = report_of(run, tmp_path)
    assert {"corruptions", "color"} <= {attrs["id"] for attrs in page.all("h2")}
    assert {f"{100 * top1:.1f}" for top1 in corrupted["corruptions"]["contrast"]} <= page.cells
    assert f"{colors['grey']:.1%}" in page.text
    assert (pictures / "corruptions.png").exists()
    assert (pictures / "color.png").exists()


@pytest.mark.parametrize(
    ("values", "shown"), [({"earlier": [{}, {}]}, [("earlier processes", "2")]), ({"earlier": 1}, []), ({"earlier": None}, [])]
)
def test_an_environment_that_is_none_is_left_out(tmp_path, values, shown):
    (tmp_path / "environment.json").write_text(dumps_checksummed(values))
    assert environment_rows(tmp_path / "environment.json") == shown
