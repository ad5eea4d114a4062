"""What a URL and a token become on the wire."""

from __future__ import annotations

import traceback
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.delivery.destination import FORM, Destination
from junebug_turn.errors import DeliveryRefused


def basic(userpass: str) -> bytes:
    return b"Basic " + b64encode(userpass.encode())


def test_token() -> None:
    """A token is sent as "Token <token>", or in the scheme that is asked for."""
    assert Destination.of("http://h/", "secret").authorization == b"Token secret"
    assert Destination.of("http://h/", "secret", "Bearer").authorization == b"Bearer secret"


@pytest.mark.parametrize("token", [None, ""])
def test_no_token(token: str | None) -> None:
    """Without token and userinfo there is no Authorization header."""
    destination = Destination.of("http://h/", token)
    assert destination.authorization is None
    assert not destination.headers.hasHeader("Authorization")


@pytest.mark.parametrize(
    ("userinfo", "userpass"),
    [
        ("user:pass", "user:pass"),
        ("us%40er:p%3Aa%2Fss", "us@er:p:a/ss"),
        ("%C3%BC:%E2%82%AC", "ü:€"),
        ("user", "user:"),
        (":pass", ":pass"),
        ("a:b:c", "a:b:c"),
    ],
)
def test_basic(userinfo: str, userpass: str) -> None:
    """User and password in the URL go into Basic, percent-decoded, and win over a token."""
    destination = Destination.of(f"http://{userinfo}@h:81/p", "token")
    assert destination.authorization == basic(userpass)
    assert destination.url == "http://h:81/p"


@pytest.mark.parametrize(
    ("url", "wire", "origin"),
    [
        ("http://h", "http://h/", "http://h:80"),
        ("HTTPS://H.Example/A?b=c#d", "https://h.example/A?b=c", "https://h.example:443"),
        ("http://h?x=1", "http://h/?x=1", "http://h:80"),
        ("  http://h/\n", "http://h/", "http://h:80"),
        ("http://h/a b/ü?q=ü&r=%zz%20+", "http://h/a%20b/%C3%BC?q=%C3%BC&r=%zz%20+", "http://h:80"),
        ("http://exämple.com:8080/", "http://xn--exmple-cua.com:8080/", "http://xn--exmple-cua.com:8080"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x", "http://[::1]:8080"),
        ("https://127.0.0.1/", "https://127.0.0.1/", "https://127.0.0.1:443"),
        ("http://h/a\x00\x7f\x1fb", "http://h/a%00%7F%1Fb", "http://h:80"),
    ],
)
def test_wire(url: str, wire: str, origin: str) -> None:
    """The URL is requested in ASCII, IDNA and percent-encoding, with what was encoded left as it is."""
    destination = Destination.of(url, None)
    assert (destination.url, destination.origin) == (wire, origin)


BAD_URLS = [
    "",
    "nonsense",
    "/path",
    "//h/x",
    "http://",
    "http:///x",
    "http:h/x",
    "http://user@/",
    "ftp://h/",
    "file:///etc/passwd",
    "mailto:x@y",
    "http://h:0/",
    "http://h:99999/",
    "http://h:abc/",
    "http://[::1",
    "http://[zz]/",
    "http://[fe80::1%25eth0]/",
    "http://a b/",
    "http://a..b/",
    "http://-/",
    "http://" + "a" * 64 + ".com/",
    "http://h\ud800/",
    "http://h/\ud800",
    "http://h\x00/",
    "http://h/?\ud800",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_url(url: str) -> None:
    """What is no http(s) URL with a host is refused with the reason bad_url, after no attempt."""
    with pytest.raises(DeliveryRefused) as caught:
        Destination.of(url, None)
    error = caught.value
    assert (error.reason, error.attempts, error.last_status) == ("bad_url", 0, None)


@pytest.mark.parametrize("url", ["http://user:s3cret", "http://user:s3cret@/", "ftp://u:s3cret@h/?s3cret"])
def test_bad_url_is_not_told(url: str) -> None:
    """The error for a bad URL does not repeat it: it may hold a password."""
    with pytest.raises(DeliveryRefused) as caught:
        Destination.of(url, None)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_repr_has_no_secret() -> None:
    """A destination in a log or a traceback shows its origin and no secret."""
    assert (
        repr(Destination.of("http://u:s3cret@h/?key=s3cret", "s3cret")) == "Destination(origin='http://h:80')"
    )


@given(
    st.text(max_size=60)
    | st.builds(
        "{}://{}{}".format, st.sampled_from(["http", "https"]), st.text(max_size=20), st.text(max_size=20)
    ),
    st.none() | st.text(max_size=20),
)
def test_any_url(url: str, token: str | None) -> None:
    """Any text is either refused as bad_url or becomes a URL in printable ASCII without userinfo."""
    try:
        destination = Destination.of(url, token)
    except DeliveryRefused:
        return
    assert destination.url.isascii()
    assert destination.url.isprintable()
    assert " " not in destination.url
    assert "@" not in destination.url.split("/")[2]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com/a", b"example.com"),
        ("http://example.com:80/a", b"example.com"),
        ("https://example.com:443/a", b"example.com"),
        ("http://example.com:443/a", b"example.com:443"),
        ("https://[::1]:8080/a", b"[::1]:8080"),
    ],
)
def test_the_host_of(url: str, host: bytes) -> None:
    """A scheme's own port is left out of the Host header, and an IPv6 address stands in brackets."""
    assert Destination.of(url, None).headers.getRawHeaders(b"host") == [host]


def test_forms_and_gets() -> None:
    """The body of a POST has the content type that is asked for, JSON by default; without one it is a GET."""
    posted = Destination.of("http://h/", None)
    form = Destination.of("http://h/", None, content_type=FORM)
    got = Destination.of("http://h/", None, content_type=None)
    assert [each.method for each in (posted, form, got)] == ["POST", "POST", "GET"]
    types = [each.headers.getRawHeaders("Content-Type") for each in (posted, form, got)]
    assert types == [["application/json"], ["application/x-www-form-urlencoded"], None]


def test_configured_url() -> None:
    """A URL made from one of the configuration names that one, for its circuit; any other one names itself."""
    assert Destination.of("http://h/p", None).configured_url == "http://h/p"
    made = Destination.parse("http://h/p?to=27", configured_url="http://h/p?to=%p")
    assert (made.url, made.configured_url) == ("http://h/p?to=27", "http://h/p?to=%p")
