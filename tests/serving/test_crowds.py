"""Requests are answered while others take their time."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cifar_flax.data.pictures.decode import too_costly
from cifar_flax.serving.errors import Busy
from cifar_flax.serving.web import reading as module
from cifar_flax.serving.web.admission import Admission
from cifar_flax.serving.web.heat_map import Explainer
from tests.serving import crafted
from tests.serving.api import Api, encoded, picture, refused

LONG = 600  # seconds, on a machine that is busy


@pytest.fixture
def held(network, monkeypatch):
    """Keeps the network from looking at pictures of more than 30 pixels a side until `leave` is set."""
    state, view = SimpleNamespace(entered=threading.Event(), leave=threading.Event()), network.view

    def hold(picture, fit):
        if picture.height > 30:
            state.entered.set()
            assert state.leave.wait(LONG)
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
        assert held.entered.wait(LONG)
        assert busy(impatient.upload(encoded(picture())))
        held.leave.set()
        assert first.result().status_code == 200
    assert impatient.upload(encoded(picture())).status_code == 200


def test_large_pictures_cannot_keep_small_ones_waiting(network, held):
    large, api = encoded(np.zeros((2000, 2001), np.uint8)), Api(network, classifying=1, large_queue_size=1, queue_timeout=LONG)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(api.upload, large)
        assert held.entered.wait(LONG)
        others = [threads.submit(api.upload, large) for _ in range(2)]
        assert busy(next(as_completed(others)).result())  # while the other waits its turn
        assert api.upload(encoded(picture())).status_code == 200
        held.leave.set()
        assert sorted(each.result().status_code for each in (first, *others)) == [200, 200, 503]


def test_a_picture_that_takes_long_to_read_keeps_no_other_from_being_explained(network, held):
    api = Api(network, classifying=2, explaining_queue_size=0, queue_timeout=LONG)
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(api.explain, encoded(picture(40, 40)))
        assert held.entered.wait(LONG)
        assert api.explain(encoded(picture())).status_code == 200
        held.leave.set()
        assert slow.result().status_code == 200


def test_pictures_to_be_explained_leave_a_place_for_predictions(network, monkeypatch):
    api, others = Api(network, classifying=2, explaining_queue_size=3, queue_timeout=LONG), encoded(picture())
    entered, leave = threading.Event(), threading.Event()
    heat_map = Explainer.heat_map
    monkeypatch.setattr(Explainer, "heat_map", lambda *asking: entered.set() or (leave.wait(LONG) and heat_map(*asking)))
    with ThreadPoolExecutor() as threads:
        explanations = [threads.submit(api.explain, others) for _ in range(5)]
        assert busy(next(as_completed(explanations)).result())  # while one is looked at, and three wait
        assert entered.wait(LONG)
        assert api.upload(encoded(picture())).status_code == 200
        leave.set()
        assert sorted(each.result().status_code for each in explanations) == [200, 200, 200, 200, 503]


def test_servers_that_do_not_answer_cannot_keep_uploads_waiting(network, monkeypatch):
    entered, leave = threading.Event(), threading.Event()
    api = Api(network, fetching=1, fetching_queue_size=0, queue_timeout=LONG)
    monkeypatch.setattr(module, "fetch", lambda *asking: entered.set() or (leave.wait(LONG) and encoded(picture())))
    with ThreadPoolExecutor() as threads:
        first = threads.submit(api.address, "http://slow.example")
        assert entered.wait(LONG)
        assert busy(api.address("http://slow.example"))  # at once
        assert api.upload(encoded(picture())).status_code == 200
        leave.set()
        assert first.result().status_code == 200


def test_clients_take_turns():
    admission, order, entered, leave = Admission(1, queue_size=10, queue_timeout=LONG), [], threading.Event(), threading.Event()

    def ask(client):
        with admission.place(client):
            order.append(client)
            entered.set()
            assert leave.wait(LONG)

    with ThreadPoolExecutor(10) as threads:
        asking = [threads.submit(ask, "a")]
        assert entered.wait(LONG)
        for number, client in enumerate("aaaabcb", 1):
            asking.append(threads.submit(ask, client))
            while len(admission) < number:
                time.sleep(0.001)
        leave.set()
        for each in asking:
            each.result()
    assert order == ["a", "b", "c", "a", "b", "a", "a", "a"]


@pytest.mark.parametrize("kind", [0, 1], ids=["WebP", "TIFF"])
def test_a_picture_of_25_million_pixels_in_the_costliest_form_is_classified(network, kind):
    assert Api(network).upload(crafted.hungriest(5000)[kind]).status_code == 200


def test_addresses_wait_for_their_turn(network, monkeypatch):
    entered, leave = threading.Event(), threading.Event()
    monkeypatch.setattr(module, "fetch", lambda *asking: entered.set() or (leave.wait(LONG) and encoded(picture())))
    api = Api(network, fetching=1, queue_timeout=LONG)
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(api.address, f"http://{name}.example") for name in "abcd"]
        assert entered.wait(LONG)
        leave.set()
        assert [each.result().status_code for each in waiting] == [200] * 4


def test_a_costly_picture_waits_for_others_of_its_client_and_one_of_each_other():
    """Behind a proxy all clients are one; and a client of many small pictures is to let a large one of another in."""
    admission, order, entered, leave = Admission(1, queue_size=10, queue_timeout=LONG), [], threading.Event(), threading.Event()

    def ask(name, round_):
        with admission.place(name.partition(" ")[0], round_):
            order.append(name)
            entered.set()
            assert leave.wait(LONG)

    with ThreadPoolExecutor(10) as threads:
        asking = [threads.submit(ask, "proxy first", 1)]
        assert entered.wait(LONG)
        for number, (name, round_) in enumerate(
            [*[("proxy costly", 1)] * 2, *[("proxy quick", 0)] * 3, ("other costly", 1)], 1
        ):
            asking.append(threads.submit(ask, name, round_))
            while len(admission) < number:
                time.sleep(0.001)
        leave.set()
        for each in asking:
            each.result()
    assert order == ["proxy first", "other costly", *["proxy quick"] * 3, *["proxy costly"] * 2]


def test_a_client_with_many_pictures_makes_room_for_others():
    admission, leave = Admission(1, queue_size=3, queue_timeout=LONG), threading.Event()

    def ask(client):
        with admission.place(client):
            return leave.wait(LONG)

    with ThreadPoolExecutor(10) as threads:
        greedy = [threads.submit(ask, "a") for _ in range(5)]
        with pytest.raises(Busy):
            next(as_completed(greedy)).result()
        while len(admission) < 3:
            time.sleep(0.001)
        other = threads.submit(ask, "b")
        refused = {each for each in greedy if each.done()} | {next(as_completed([e for e in greedy if not e.done()]))}
        leave.set()
        assert other.result()
        assert len(refused) == 2
        assert sum(each.exception() is None for each in greedy) == 3


def test_clients_are_told_apart_by_ip_address(network, monkeypatch):
    seen = []

    class Recording(Admission):
        def place(self, client, round_=0):
            seen.append(client)
            return super().place(client, round_)

    monkeypatch.setattr(module, "Admission", Recording)
    client = Api(network).client
    for address in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "fe80::1%eth0"):
        form = {"file": (io.BytesIO(encoded(picture())), "a.png")}
        assert client.post("/api/predict", data=form, environ_overrides={"REMOTE_ADDR": address}).status_code == 200
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert len(set(seen)) == 4


def test_a_costly_picture_is_decoded_within_ever_higher_limits(network, monkeypatch):
    api, tried = Api(network), []

    def decode(data, limits):
        tried.append(limits)
        if limits is not module.LARGE:
            raise too_costly()
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(api.decoder, "decode", decode)
    assert api.upload(b"costly").status_code == 200
    assert tried == [module.QUICK, module.MODERATE, module.LARGE]


@pytest.mark.slow
def test_a_picture_that_takes_too_long_to_decode_cannot_keep_others_waiting(network):
    api = Api(network)
    with ThreadPoolExecutor() as threads:
        costly = threads.submit(api.upload, crafted.tiff_strips(2_500_000))
        first = next(as_completed([costly, threads.submit(api.upload, encoded(picture()))]))
        assert first is not costly
        assert first.result().status_code == 200
        refused(costly.result(), 422, "too_costly")
