"""Requests that pages of other sites send through a visitor's browser."""

import io

import pytest

from cifar_flax.errors import UserError
from cifar_flax.serving.web.sites import Hosts
from tests.serving.api import Api, encoded, picture, refused


@pytest.fixture(scope="module")
def network(make_network):
    return make_network()


@pytest.fixture(scope="module")
def local(network):
    """The application of a server on 127.0.0.1, behind a proxy with a name."""
    return Api(network, hosts=Hosts.of_server("127.0.0.1", "127.0.0.1", ["Pictures.Example.org.", "2001:db8::1"]))


@pytest.fixture(scope="module")
def exposed(network):
    """The application of a server on all addresses."""
    return Api(network, hosts=Hosts.of_server("0.0.0.0", "0.0.0.0"))


def health(api, host):
    return api.open("/healthz", headers={"Host": host})


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LocalHost.:8000",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.8.9.10",
        "[::1]",
        "[0:0::1]:8000",
        "pictures.example.org",
        "PICTURES.example.org.:443",
        "[2001:db8:0::1]",
    ],
)
def test_the_names_of_the_server_are_accepted(local, host):
    assert health(local, host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "pictures.example.org.evil.example",
        "xpictures.example.org",
        "a@localhost",
        "localhost:8000@evil.example",
        "localhost, localhost",
        "localhost:x",
        "localhost/",
        "192.168.1.5",
        "0.0.0.0",
        "[2001:db8::2]",
        "[::1",
        "::1",
        "\u00e9vil",
        "",
        " ",
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/", "/nowhere", "/static/page.js"])
def test_other_names_are_refused_on_every_path(local, host, path):
    refused(local.open(path, headers={"Host": host}), 400, "bad_host")


def test_no_name_at_all_is_refused(local):
    assert local.client.open("/healthz", headers={}, environ_overrides={"HTTP_HOST": ""}).status_code == 400


def test_a_server_on_all_addresses_accepts_addresses_that_no_site_can_be_named(exposed):
    for host in ("192.168.1.5:8000", "0.0.0.0:8000", "[2001:db8::2]", "localhost"):
        assert health(exposed, host).status_code == 200
    for host in ("evil.example", "192.168.1.5.evil.example", "1"):
        refused(health(exposed, host), 400, "bad_host")


def test_the_host_that_is_listened_on_is_accepted(network):
    api = Api(network, hosts=Hosts.of_server("box.lan", "10.0.0.7"))
    assert [health(api, host).status_code for host in ("box.lan:8000", "10.0.0.7", "10.0.0.8", "lan")] == [200, 200, 400, 400]


@pytest.mark.parametrize("name", ["https://pictures.example.org", "example.org:443", "*", "a b", "/"])
def test_an_allowed_host_that_is_none_is_named(name):
    with pytest.raises(UserError, match="expected a host without scheme and port"):
        Hosts.of_server("127.0.0.1", "127.0.0.1", [name])


def send(api, method="POST", path="/api/predict", **headers):
    headers = {"Host": "localhost:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
    data = {"file": (io.BytesIO(encoded(picture())), "a.png")} if method == "POST" else None
    return api.open(path, method=method, headers=headers, data=data)


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a program
        {"Origin": "http://localhost:8000"},
        {"Origin": "HTTP://LOCALHOST:8000"},
        {"Sec_Fetch_Site": "same-origin", "Origin": "http://localhost:8000"},
        {"Sec_Fetch_Site": "same-origin", "Origin": "https://proxied.example"},  # through a proxy that replaces Host
        {"Sec_Fetch_Site": "none"},
        {"Origin": "https://pictures.example.org"},
    ],
)
def test_pictures_from_the_own_page_and_from_programs_are_classified(local, headers):
    assert send(local, **headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},  # another server on localhost
        {"Sec_Fetch_Site": ""},
        {"Sec_Fetch_Site": "same-origin, cross-site"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "http://localhost:8000"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://localhost"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "http://pictures.example.org:3000"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:8000, https://evil.example"},
        {"Origin": "http://["},
    ],
)
def test_pictures_from_pages_of_other_sites_are_refused(local, headers):
    refused(send(local, **headers), 403, "cross_origin")


def test_a_page_of_another_site_may_lead_here(local):
    assert send(local, "GET", "/", Sec_Fetch_Site="cross-site").status_code == 200
