import base64
import io
import json
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cifar_flax.evaluation.calibration import Calibration
from cifar_flax.serving.fetch.client import FetchLimits
from cifar_flax.serving.web import reading
from tests.serving.api import OPENAPI, Api, encoded, picture, refused

NOT_UTF_8 = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig")  # the last says so where it should not
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'


@pytest.fixture(scope="module")
def network(make_network):
    return make_network()


@pytest.fixture(scope="module")
def api(network):
    return Api(network)


def decoded(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_an_upload_is_classified(api, network):
    array = picture()
    response = api.upload(encoded(array))
    assert response.status_code == 200
    predictions = [(p["class"], p["superclass"], p["probability"]) for p in response.json["predictions"]]
    assert predictions == [tuple(p) for p in network.predict(array)]
    assert response.json.keys() == {"predictions"}
    assert len(api.upload(encoded(array), "?top=3").json["predictions"]) == 3
    assert len(api.upload(encoded(array), "?top=1000").json["predictions"]) == 10


def test_an_address_is_classified(api, network, monkeypatch):
    array, asked = picture(), []
    monkeypatch.setattr(reading, "fetch", lambda *asking: asked.append(asking) or encoded(array))
    response = api.address(" https://example.org/a.png ")
    assert [p["class"] for p in response.json["predictions"]] == [p.name for p in network.predict(array)]
    Api(network, allow_private=True, upload_bytes=1000).address("https://example.org/a.png")
    url = "https://example.org/a.png"
    assert asked == [(url, FetchLimits(bytes=10 * 2**20), False), (url, FetchLimits(bytes=1000), True)]


def test_the_pictures_come_back_when_asked_for(api, network):
    array = picture(900, 1200)
    shown = api.upload(encoded(array), "?pictures=true").json["pictures"]
    np.testing.assert_array_equal(np.asarray(decoded(shown["seen"])), network.view(array))
    assert decoded(shown["preview"]).size == (640, 480)
    small = api.upload(encoded(picture()), "?pictures=true").json["pictures"]["preview"]
    np.testing.assert_array_equal(np.asarray(decoded(small)), picture())


@pytest.mark.parametrize("method", ["occlusion", "saliency"])
def test_a_class_is_explained_by_what_the_network_computes(api, network, method):
    array = picture()
    answer = api.explain(encoded(array), **{"class": "line_7", "method": method}).json
    assert (answer["class"], answer["superclass"], answer["method"]) == ("line_7", "columns", method)
    np.testing.assert_allclose(answer["values"], network.explain(network.view(array), 7, method), rtol=1e-4, atol=1e-6)
    assert decoded(answer["heat_map"]).size == (320, 320)


@pytest.mark.parametrize("method", ["occlusion", "saliency"])
def test_with_flip_the_probability_that_is_shown_is_explained(make_network, method):
    network = make_network()
    array, expected = network.view(picture()), []
    for flip in (False, True):
        answer = Api(network, flip=flip).explain(encoded(picture()), **{"class": "line_7", "method": method}).json
        expected.append(network.explain(array, 7, method, flip=flip))
        np.testing.assert_allclose(answer["values"], expected[-1], rtol=1e-4, atol=1e-6)
    assert abs(expected[0] - expected[1]).max() > 1e-4


def test_by_default_the_likeliest_class_is_explained_by_occlusion(api, network):
    answer = api.explain(encoded(picture())).json
    assert (answer["class"], answer["method"]) == (network.predict(picture())[0].name, "occlusion")


def test_what_the_network_sees_is_explained_as_the_picture_is(api):
    seen = decoded(api.upload(encoded(picture()), "?pictures=true").json["pictures"]["seen"])
    assert api.explain(encoded(np.asarray(seen))).json == api.explain(encoded(picture())).json


def test_a_request_to_explain_is_refused_as_one_to_predict(api):
    refused(api.explain(encoded(picture()), **{"class": "line 7"}), 400, "unknown_class")
    refused(api.explain(encoded(picture()), method="lime"), 400, "bad_method")
    refused(api.explain(b"hello"), 415, "not_an_image")
    refused(api.explain(b""), 400, "empty_file")
    refused(api.body(b"{}", path="/api/explain"), 400, "missing_url")
    refused(api.body(b"x", "image/png", "/api/explain"), 415, "unsupported_media_type")


def test_the_model_describes_itself(api, make_network):
    model = api.open("/api/model").json
    assert (model["name"], model["image_shape"], model["fit"], model["flip"]) == ("tiny", [8, 8, 3], "crop", False)
    assert (model["architecture"], model["data_set"], model["accuracy"]) == ("convnet", "tiny", None)
    measured = make_network()
    measured.figures = {"split": "test", "top1": 0.75, "n": 10000, "loss": 1.0, "ece": 0.0272}
    measured.config.data.name = "folder:/home/someone/pets"
    assert not model["calibrated"]
    measured.calibration = Calibration(0.5, "its validation images")
    site = Api(measured)
    model = site.open("/api/model").json
    assert model["calibrated"]
    assert (model["data_set"], model["accuracy"]) == ("pets", {"split": "test", "top1": 0.75, "n": 10000})
    page = " ".join(site.open("/").text.split())
    assert f"a convnet of {measured.num_parameters:,} parameters trained on pets, is right about 75.0% of 10,000 test" in page
    assert "Its percentages are calibrated: on the test images they are off by 2.7 points on average." in page
    assert "someone" not in page
    model = api.open("/api/model").json
    assert model["classes"][0] == {"class": "line_0", "superclass": "rows"}
    assert len(model["classes"]) == 10


def test_the_description_names_every_route_of_the_api(api):
    routes = {
        (rule.rule, method.lower())
        for rule in api.client.application.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api") or rule.rule == "/healthz"
    }
    described = {(path, method) for path, methods in OPENAPI.spec.read_value()["paths"].items() for method in methods}
    assert routes == described


def test_healthz_says_that_the_server_answers(api):
    assert api.open("/healthz").json == {"status": "ok"}


def test_the_page_asks_nobody_else(api, make_network):
    network = make_network()
    network.name = "<script>alert(1)</script>"
    page = Api(network).open("/").text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>" not in page  # nor any inline one, which the policy would block
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) > 10
    for link in links:
        assert not link.startswith("/")  # so that it works below any path of a proxy
        assert api.open(f"/{link}").status_code == 200
    assert b"d3js.org v5" in api.open("/d3.js").data[:100]
    assert OPENAPI.spec.read_value()["openapi"] in api.open("/openapi.yaml").text


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b'{"url": "\xff\xfe"}', "application/json", 400, "bad_json"),
        *(('{"url": "ftp://x/"}'.encode(text), "application/json", 400, "bad_json") for text in NOT_UTF_8),
        (b"{", "application/json", 400, "bad_json"),
        (b"[" * 60_000, "application/json", 400, "bad_json"),
        (b"[" * 70_000, "application/json", 413, "too_large"),
        (b"", "application/json", 400, "bad_json"),
        (b"[]", "application/json", 400, "missing_url"),
        (b"{}", "application/json", 400, "missing_url"),
        (b'{"url": 3}', "application/json", 400, "missing_url"),
        (b'{"url": "  "}', "application/json", 400, "missing_url"),
        (b'{"url": "file:///etc/passwd"}', "application/json", 400, "scheme_not_allowed"),
        (b'{"url": "http://127.0.0.1/"}', "application/json", 400, "unknown_host"),
        (b'{"url": "http://\\ud800/"}', "application/json", 400, "bad_address"),
        (b"", "multipart/form-data; boundary=x", 400, "missing_file"),
        (b"", "multipart/form-data", 400, "missing_file"),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nhi\r\n--x--',
            "multipart/form-data; boundary=x",
            400,
            "missing_file",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + b"x" * 600_000 + b"\r\n--x--",
            "multipart/form-data; boundary=x",
            400,
            "bad_form",
        ),
        (PART + b"a: b\r\n" * 50_000 + b"\r\nhi\r\n--x--", "multipart/form-data; boundary=x", 400, "bad_form"),
        ((PART + b"\r\nhi\r\n") * 9 + b"--x--", "multipart/form-data; boundary=x", 400, "bad_form"),
        (b"x" * 20, "image/png", 415, "unsupported_media_type"),
        (b"url=http://127.0.0.1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b" " * (10 * 2**20 + 1), "application/json", 413, "too_large"),
        (b" " * (10 * 2**20 + 1), "multipart/form-data; boundary=x", 413, "too_large"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_a_bad_request_gets_a_code_and_a_sentence(api, body, content_type, status, code):
    refused(api.body(body, content_type), status, code)


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<!doctype html><title>404</title>",
        encoded(picture(100, 100), "JPEG")[:900],
        encoded(np.zeros((1, 1, 3), np.uint8)),
        encoded(np.zeros((20000, 20000), bool)),
    ],
    ids=["text", "svg", "html", "truncated", "1x1", "bomb"],
)
def test_files_that_are_no_pictures_get_a_code_and_a_sentence(api, data):
    response = api.upload(data)
    assert response.status_code in (413, 415, 422)
    refused(response, response.status_code, response.json["error"]["code"])


def test_an_empty_file_is_named(api):
    refused(api.upload(b""), 400, "empty_file")


@pytest.mark.parametrize("top", ["0", "-1", "x", "1e3", "²", "1001", ""])
def test_a_bad_number_of_classes_is_refused(api, top):
    refused(api.upload(encoded(picture()), f"?top={top}"), 400, "bad_top")


def test_a_wrong_method_and_a_wrong_path_are_refused(api):
    response = api.open("/api/predict", method="GET")
    refused(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]
    for path in ("/nowhere", "/static/samples/none.png", "/static/../app.py", "/static/none.js"):
        refused(api.open(path), 404, "not_found")


def test_details_of_internal_errors_are_not_sent(network, monkeypatch):
    def fail(picture, fit):
        raise RuntimeError("/home/someone/secret")

    broken = Api(network)
    monkeypatch.setattr(network, "view", fail)
    assert "secret" not in refused(broken.upload(encoded(picture())), 500, "internal_server_error")
    monkeypatch.undo()
    assert broken.upload(encoded(picture())).status_code == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: encoded(picture(9, 9))[:40] + tail)))
def test_no_bytes_break_an_upload(api, data):
    assert 400 <= api.upload(data).status_code < 500


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=100),
        st.recursive(
            st.none() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_no_json_breaks_a_request(api, data):
    assert 400 <= api.body(data).status_code < 500
