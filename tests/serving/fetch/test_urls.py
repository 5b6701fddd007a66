import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_flax.serving.errors import FetchRefused
from cifar_flax.serving.fetch.urls import MAX_LENGTH, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://pictures.example", ("http", "pictures.example", 80, "/")),
        (" HTTPS://Pictures.Example./A%20b.png?q=1&r=%7e#part \n", ("https", "pictures.example", 443, "/A%20b.png?q=1&r=%7e")),
        ("http://pictures.example:443/", ("http", "pictures.example", 443, "/")),
        (" https://bücher.example/straße und so.jpg", ("https", "xn--bcher-kva.example", 443, "/stra%C3%9Fe%20und%20so.jpg")),
        ("https://a_b-1.example/?x", ("https", "a_b-1.example", 443, "/?x")),
        ("http://[2606:2800:21F:0::1]/x", ("http", "2606:2800:21f::1", 80, "/x")),
        ("http://\uff11\uff12\uff17.0.0.1/", ("http", "127.0.0.1", 80, "/")),
        ("http://pictures.example//evil.example/", ("http", "pictures.example", 80, "//evil.example/")),
        ("http://pictures.example#@127.0.0.1/", ("http", "pictures.example", 80, "/")),
    ],
)
def test_addresses_are_taken_apart(text, expected):
    assert parse(text) == expected
    assert parse(str(parse(text))) == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("file:///etc/passwd", "scheme_not_allowed"),
        ("FTP://pictures.example/", "scheme_not_allowed"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "scheme_not_allowed"),
        ("data:image/png;base64,AAAA", "scheme_not_allowed"),
        ("javascript:alert(1)", "scheme_not_allowed"),
        ("http:pictures.example", "bad_address"),
        ("pictures.example/cat.jpg", "bad_address"),
        ("localhost:8000/cat.jpg", "bad_address"),
        ("/etc/passwd", "bad_address"),
        ("", "bad_address"),
        ("http://", "bad_address"),
        ("http:///cat.jpg", "bad_address"),
        ("http://pictures.example/\r\nX-Injected: 1", "bad_address"),
        ("http://pictures\t.example/", "bad_address"),
        ("http://pictures.example/\ud83d", "bad_address"),  # half a character, as JSON can have it
        ("http://pictures.example\\@127.0.0.1/", "bad_address"),
        ("http://pictures.example:x/", "bad_address"),
        ("http://pictures.example:99999/", "bad_address"),
        ("http://%31%32%37.0.0.1/", "bad_address"),
        ("http://127.0.0.1%00.example/", "bad_address"),
        ("http://pic tures.example/", "bad_address"),
        ("http://pictures..example/", "bad_address"),
        (f"http://{'a' * 64}.example/", "bad_address"),
        (f"http://{'a.' * 97}example/", "bad_address"),
        ("http://[::1/", "bad_address"),
        ("http://[fe80::1%25eth0]/", "bad_address"),
        ("http://[fe80::1%eth0]/", "bad_address"),
        ("http://[v1.x]/", "bad_address"),
        ("http://[::1]pictures.example/", "bad_address"),
        ("http://127.0.0.1]/", "bad_address"),
        ("http://pictures.example:-80/", "bad_address"),
        ("http://pictures.example:\u0664\u0664\u0663/", "bad_address"),
        ("http://pictures.example/" + "a" * MAX_LENGTH, "bad_address"),
        ("http://user:password@pictures.example/", "credentials_in_address"),
        ("http://user@pictures.example/", "credentials_in_address"),
        ("http://@pictures.example/", "credentials_in_address"),
        ("http://pictures.example:80@127.0.0.1/", "credentials_in_address"),
        ("http://pictures.example:25/", "port_not_allowed"),
        ("http://pictures.example:0/", "port_not_allowed"),
        ("https://pictures.example:8443/", "port_not_allowed"),
    ],
)
def test_bad_addresses_are_refused(text, code):
    with pytest.raises(FetchRefused) as caught:
        parse(text)
    assert (caught.value.code, caught.value.status) == (code, 400)
    assert str(caught.value).endswith(".")
    assert "password" not in str(caught.value).replace("a password", "")


def test_any_port_where_private_networks_are_allowed():
    assert parse("http://pictures.example:8000/", any_port=True).port == 8000


@settings(deadline=None)
@given(
    st.text(max_size=40), st.sampled_from(["", "http://", "https://", "http://[", "http://a@", "http://a:", "http://127.0.0.1"])
)
def test_any_text_is_taken_apart_or_refused(text, start):
    try:
        url = parse(start + text)
    except FetchRefused:
        return
    assert url.port in (80, 443)
    assert url.target.startswith("/")
    line = f"{url.host}{url.target}"
    assert all(33 <= ord(character) < 127 for character in line)
    assert parse(str(url)) == url
