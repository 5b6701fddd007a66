"""The networks that come with the package are what their files and the README say of them."""

import jax.numpy as jnp
import pytest

from benchmarks.photographs import PHOTOGRAPHS
from cifar_flax.pretrained import FOLDER, pretrained_names
from cifar_flax.run import load_network
from tests.conftest import ROOT

MEGABYTES = 25  # that a file may have


@pytest.mark.parametrize("name", pretrained_names())
def test_a_bundled_network_is_complete_and_small(name):
    network = load_network(name)
    assert (FOLDER / f"{name}.safetensors").stat().st_size < MEGABYTES * 1e6
    assert (
        len(network.class_names) == len(set(network.class_names)) == {"cifar10": 10, "cifar100": 100}[network.config.data.name]
    )
    assert network.calibration.source
    assert network.figures["ece"] < 0.035 < network.figures["ece_uncalibrated"]
    assert network.figures["split"] == "test"
    assert network.figures["n"] == 10000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fast", "fast_long"])  # of CIFAR-10 there are no images where the tests run
def test_its_figures_are_those_of_the_real_test_split(name, monkeypatch, cifar100_cache):
    monkeypatch.setenv("CIFAR_FLAX_CACHE", cifar100_cache)
    network = load_network(name)
    actual = network.evaluate("test")
    for figure in ("top1", "top2", "top3", "top5", "superclass_top1"):
        # Sums in another order, or in bfloat16, may turn over images whose best guesses are as good as even: a few of 10,000.
        assert actual[figure] == pytest.approx(network.figures[figure], abs=2e-3 if network.dtype == jnp.bfloat16 else 5e-4)


@pytest.mark.parametrize("name", pretrained_names())
def test_the_readme_and_the_page_on_percentages_have_its_figures(name):
    figures = load_network(name).figures
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if f"`pretrained:{name}`" in line)
    assert f"{100 * figures['top1']:.2f}" in row
    page = (ROOT / "docs" / "calibration.md").read_text().splitlines()
    row = next(line for line in page if line.startswith("|") and f"`pretrained:{name}`" in line)
    assert [f"{100 * figures[key]:.2f} %" for key in ("ece_uncalibrated", "ece")] == [x.strip() for x in row.split("|")[4:6]]


def test_photographs_that_the_documentation_shows_get_the_classes_that_it_says():
    network = load_network("fast")
    page = " ".join((ROOT / "docs" / "photographs.md").read_text().split())
    hits, misses = page.partition("Not among them: ")[::2]
    known = [photograph for photograph in PHOTOGRAPHS if photograph.classes]
    assert len(known) >= 5
    for photograph in known:
        actual = {prediction.name for prediction in network.predict(photograph.read(), top=5)}
        assert photograph.title in (hits if actual & set(photograph.classes) else misses.partition("![")[0])
