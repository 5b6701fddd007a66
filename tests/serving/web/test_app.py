import base64
import dataclasses
import io
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cifar_flax.data.shapes100.classes import CATALOG
from cifar_flax.serving.fetch.client import FetchLimits
from cifar_flax.serving.web import app as module
from tests.serving.api import OPENAPI, Api, encoded, picture, refused

NOT_UTF_8 = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig")  # the last says so where it should not
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'


@pytest.fixture(scope="module")
def network(make_network):
    return make_network()


@pytest.fixture(scope="module")
def api(network):
    return Api(network)


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
    monkeypatch.setattr(module, "fetch", lambda *asking: asked.append(asking) or encoded(array))
    response = api.address(" https://example.org/a.png ")
    assert [p["class"] for p in response.json["predictions"]] == [p.name for p in network.predict(array)]
    Api(network, allow_private=True, upload_bytes=1000).address("https://example.org/a.png")
    url = "https://example.org/a.png"
    assert asked == [(url, FetchLimits(bytes=10 * 2**20), False), (url, FetchLimits(bytes=1000), True)]


def test_the_pictures_come_back_when_asked_for(api, network):
    array = picture(900, 1200)
    shown = api.upload(encoded(array), "?pictures=true").json["pictures"]
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["seen"].partition(",")[2]))))
    np.testing.assert_array_equal(seen, network.view(array))
    assert Image.open(io.BytesIO(base64.b64decode(shown["preview"].partition(",")[2]))).size == (640, 480)


def test_the_model_describes_itself(api):
    model = api.open("/api/model").json
    assert (model["name"], model["image_shape"], model["fit"], model["flip"]) == ("tiny", [8, 8, 3], "crop", False)
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


def test_sample_pictures_fit_the_classes_of_the_network(api, network):
    shapes = tuple(name for members in CATALOG.values() for name in members)
    stub = SimpleNamespace(name="stub", preprocessing=dataclasses.replace(network.preprocessing, class_names=shapes[::-1]))
    for site, expected in (
        (Api(stub), ["butterfly", "sailboat", "spiral", "fir-tree", "snowflake", "mug"]),
        (api, ["apple", "rocket", "sea", "skyscraper", "sunflower", "ship"]),
    ):
        samples = re.findall(r'src="(static/samples/([a-z-]+)\.png)"', site.open("/").text)
        assert [name for _, name in samples] == expected
        for link, _ in samples:
            sample = Image.open(io.BytesIO(site.open(f"/{link}").data))
            assert (sample.size, sample.mode) == ((192, 192), "RGB")


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
