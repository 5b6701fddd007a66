"""The page: sample pictures and names of classes."""

import dataclasses
import html
import io
import re

import numpy as np
import pytest
from PIL import Image

from cifar_flax.data.shapes100.classes import CATALOG
from tests.conftest import tiny_split
from tests.serving.api import Api

SAMPLE = re.compile(r'data-sample="([^"]+)" aria-label="Sample: ([^"]+)"')


@pytest.fixture
def site(make_network):
    """Makes the application of a network with other names of classes, or other fields of its preprocessing."""

    def make(**fields):
        network = make_network(classes=len(fields["class_names"]) if "class_names" in fields else 10)
        network.preprocessing = dataclasses.replace(network.preprocessing, **fields)
        return Api(network)

    return make


LINES = tuple(f"line {k}" for k in range(10))


def test_samples_are_test_images_of_the_network_s_set(site, tiny_data):
    api, test = site(class_names=LINES), tiny_split(103, 1)
    samples = SAMPLE.findall(api.open("/").text)
    assert [name for _, name in samples] == list(LINES)
    for label, (link, _) in enumerate(samples):
        image = np.asarray(Image.open(io.BytesIO(api.open(f"/{link}").data)))
        np.testing.assert_array_equal(image, test.images[np.flatnonzero(test.labels == label)[0]])
    assert api.open("/samples/10.png").status_code == 404
    assert len({link.partition("?v=")[2] for link, _ in samples}) == len(LINES)  # or a browser would show another network's


@pytest.mark.parametrize("fields", [{}, {"class_names": LINES, "test_hashes": {"images": "0" * 64}}], ids=["classes", "images"])
def test_images_that_are_not_the_network_s_are_no_samples(site, tiny_data, fields):
    assert "static/samples/apple.png" in site(**fields).open("/").text


def test_a_data_set_is_called_as_people_write_it(make_network):
    network = make_network()
    for name, shown in (("cifar100", "CIFAR-100"), ("cifar10", "CIFAR-10"), ("folder:/home/me/pets", "pets")):
        network.config.data.name = name
        assert f"was trained on {shown}.\n" in Api(network).open("/").text


def test_drawn_samples_fit_the_classes_of_the_network(site):
    shapes = tuple(name for members in CATALOG.values() for name in members)
    for api, expected in (
        (site(class_names=shapes[::-1], coarse_names=(), coarse_of_fine=()), ["butterfly", "fir tree"]),
        (site(), ["apple", "skyscraper"]),
    ):
        samples = SAMPLE.findall(api.open("/").text)
        assert len(samples) == 6
        assert [samples[k][1] for k in (0, 3)] == expected
        for link, _ in samples:
            sample = Image.open(io.BytesIO(api.open(f"/{link}").data))
            assert (sample.size, sample.mode) == ((192, 192), "RGB")


def test_of_drawn_samples_a_network_is_shown_those_that_it_knows(site):
    def offered(*names):
        return [name for _, name in SAMPLE.findall(site(class_names=names, **without).open("/").text)]

    without = {"coarse_names": (), "coarse_of_fine": ()}
    assert offered("airplane", "cat", "dog", "ship") == ["ship"]
    assert len(offered("a", "b", "c", "d")) == 6  # rather than none


def test_all_classes_are_listed_by_superclass_in_names_that_people_write(site):
    fields = {"class_names": ("maple_tree", "<cat>", "oak_tree", "thing"), "coarse_names": ("small_mammals", "trees")}
    page = site(**fields, coarse_of_fine=(1, 0, 1, -1)).open("/").text
    listed = [html.unescape(name) for name in re.findall(r'<(?:h3|li) data-name="[^"]*">([^<]*)<', page)]
    assert listed == ["small mammals", "<cat>", "trees", "maple tree", "oak tree", "thing"]
    assert 'data-name="maple_tree"' in page
