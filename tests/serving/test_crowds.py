"""Requests are answered while others take their time."""

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import SimpleNamespace

import numpy as np
import pytest

from cifar_flax.serving.web import app as module
from tests.serving import crafted
from tests.serving.api import Api, encoded, picture, refused


@pytest.fixture
def held(network, monkeypatch):
    """Keeps the network from looking at pictures of more than 30 pixels a side until `leave` is set."""
    state, view = SimpleNamespace(entered=threading.Event(), leave=threading.Event()), network.view

    def hold(picture, fit):
        if picture.height > 30:
            state.entered.set()
            assert state.leave.wait(30)
        return view(picture, fit)

    monkeypatch.setattr(network, "view", hold)
    yield state
    state.leave.set()


def busy(response):
    refused(response, 503, "busy")
    return response.headers["Retry-After"]


def test_who_waits_too_long_is_told_to_come_back(network, held):
    impatient = Api(network, classifying=1, queue_timeout=0.05)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(impatient.upload, encoded(picture(40, 40)))
        assert held.entered.wait(30)
        assert busy(impatient.upload(encoded(picture())))
        held.leave.set()
        assert first.result().status_code == 200
    assert impatient.upload(encoded(picture())).status_code == 200


def test_large_pictures_cannot_keep_small_ones_waiting(network, held):
    large, api = encoded(np.zeros((2000, 2001), np.uint8)), Api(network, classifying=1, large_queue_size=1)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(api.upload, large)
        assert held.entered.wait(30)
        others = [threads.submit(api.upload, large) for _ in range(2)]
        assert busy(next(as_completed(others)).result())  # while the other waits its turn
        assert api.upload(encoded(picture())).status_code == 200
        held.leave.set()
        assert sorted(each.result().status_code for each in (first, *others)) == [200, 200, 503]


def test_servers_that_do_not_answer_cannot_keep_uploads_waiting(network, monkeypatch):
    entered, leave = threading.Event(), threading.Event()
    api = Api(network, fetching=1, queue_timeout=60)
    monkeypatch.setattr(module, "fetch", lambda *asking: entered.set() or (leave.wait(30) and encoded(picture())))
    with ThreadPoolExecutor() as threads:
        first = threads.submit(api.address, "http://slow.example")
        assert entered.wait(30)
        assert busy(api.address("http://slow.example"))  # at once
        assert api.upload(encoded(picture())).status_code == 200
        leave.set()
        assert first.result().status_code == 200


@pytest.mark.slow
def test_a_picture_that_takes_too_long_to_decode_cannot_keep_others_waiting(network):
    api = Api(network)
    with ThreadPoolExecutor() as threads:
        costly = threads.submit(api.upload, crafted.tiff_strips(2_500_000))
        first = next(as_completed([costly, threads.submit(api.upload, encoded(picture()))]))
        assert first is not costly
        assert first.result().status_code == 200
        refused(costly.result(), 422, "too_costly")
