"""The guard of the operators' address."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.test.requesthelper import DummyRequest

from junebug_turn.errors import Forbidden, RateLimited
from junebug_turn.http.admin.operators.guard import FormTokens, Guard
from junebug_turn.http.rate_limit import RateLimit


class Page(Resource):
    isLeaf = True

    def render(self, request: Any) -> bytes:
        return b"page"


def ask(method: bytes = b"GET", *, open_to_all: bool = True, **headers: str) -> tuple[Any, DummyRequest]:
    request: Any = DummyRequest([])
    request.method = method
    for name, value in ({"host": "127.0.0.1:8082"} | headers).items():
        request.requestHeaders.setRawHeaders(name.replace("_", "-"), [value])
    guard = Guard(Page(), RateLimit(Clock(), None), open_to_all=open_to_all)
    return guard.render(request), request


def test_headers() -> None:
    """Every answer has a strict Content-Security-Policy and is neither kept nor shown in another page."""
    _, request = ask()
    (policy,) = request.responseHeaders.getRawHeaders("content-security-policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    own = dict.fromkeys(("script-src", "style-src", "connect-src", "img-src", "form-action"), "'self'")
    none = dict.fromkeys(("default-src", "frame-ancestors", "base-uri"), "'none'")
    assert rules == own | none
    assert request.responseHeaders.getRawHeaders("cache-control") == ["no-store"]


@pytest.mark.parametrize("host", ["127.0.0.1:8082", "[::1]:8082", "localhost:8082", "localhost", "10.0.0.5"])
def test_names_of_its_own(host: str) -> None:
    assert ask(host=host)[0] == b"page"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8082", "127.0.0.1.evil.example", "x[", "@"])
def test_other_names(host: str) -> None:
    """Without credentials a name that another site's owner can have lead here is refused; with credentials the browser
    has none for that name."""
    with pytest.raises(Forbidden):
        ask(host=host)
    assert ask(host=host, open_to_all=False)[0] == b"page"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"origin": "http://127.0.0.1:8082"},
    ],
)
@pytest.mark.parametrize("method", [b"POST", b"DELETE"])
def test_changes_from_here(method: bytes, headers: dict[str, str]) -> None:
    """Programs and its own pages can change something."""
    assert ask(method, **headers)[0] == b"page"


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "origin": "http://127.0.0.1:8082"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
def test_changes_from_elsewhere(headers: dict[str, str]) -> None:
    """Pages of other sites can't."""
    with pytest.raises(Forbidden):
        ask(b"POST", **headers)


def test_rate_limit() -> None:
    """Requests over the limit don't reach the page."""
    guard = Guard(Page(), RateLimit(Clock(), 1), open_to_all=True)
    assert guard.render(DummyRequest([])) == b"page"
    with pytest.raises(RateLimited):
        guard.render(DummyRequest([]))


def test_form_tokens() -> None:
    """A form's token holds for the credentials that the page was made for, and in this process."""
    tokens, request, another = FormTokens(), DummyRequest([]), DummyRequest([])
    another.requestHeaders.setRawHeaders("authorization", ["Basic YTpi"])
    token = tokens.token(request).encode()
    tokens.check(request, token)
    for given, of, checks in (
        (token, another, tokens),
        (token, request, FormTokens()),
        (b"", request, tokens),
        ("é".encode(), request, tokens),
    ):
        with pytest.raises(Forbidden):
            checks.check(of, given)
