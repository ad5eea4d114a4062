"""The send URL of an External channel, asked as each family of RapidPro asks it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from junebug_turn.applications.rapidpro import TYPE
from tests.support.application_harness import Face
from tests.support.configurations import RAPIDPRO
from tests.support.http_harness import Response
from tools.demo import courier
from tools.demo.courier import FAMILIES, Outgoing, SendRequest

URL = "/send?id={{id}}&session_status={{session_status}}"
PHONE = "+250788383383"


@pytest.fixture
def face() -> Face:
    return Face.of(TYPE, RAPIDPRO)


def ask(face: Face, request: SendRequest) -> Response:
    headers = {name.replace("-", "_"): value for name, value in request.headers.items()}
    return face.ask(request.method, request.url, request.body, **headers)


@pytest.mark.parametrize("content", ["form", "json", "get"])
@pytest.mark.parametrize("family", FAMILIES)
def test_families(face: Face, family: str, content: str) -> None:
    """The requests of each family, as a form, in JSON and in the URL alone, are a message that it takes for sent."""
    id = courier.new_id(family)
    text = 'Simple Message ☺ & "more" <x>\nline'
    message = Outgoing(text=text, to=PHONE, id=id, session_status="W", quick_replies=["Yes", "No"])
    (request,) = courier.external(family, URL, message, content=content)
    response = ask(face, request)
    (published,) = face.published
    assert (response.status, response.body) == (
        200,
        {"message_id": published.message_id, "status": "accepted"},
    )
    assert (published.to_addr, published.from_addr) == (PHONE, "+8864")
    assert published.content == f"{text}\n1. Yes\n2. No"
    assert courier.judged(family, response.status, json.dumps(response.body), "accepted") == "wired"


def test_literal_requests(face: Face) -> None:
    """Requests as courier's own tests have them."""
    form = (
        b"channel=8eb23e93&from=2020&from_no_plus=2020&id=10&text=Simple+Message+%E2%98%BA&to=%2B250788383383"
    )
    asked: list[tuple[str, str, bytes, str]] = [
        ("GET", "/send?to=%2B250788383383&text=Simple+Message+%E2%98%BA&from=2020&id=10", b"", ""),
        ("POST", "/send", form, "application/x-www-form-urlencoded"),
        ("PUT", "/send", form, "application/x-www-form-urlencoded"),
        (
            "POST",
            "/send/?id=10",
            '{"to":"+250788383383","text":"Simple Message ☺","from":"2020","quick_replies":[]}'.encode(),
            "application/json",
        ),
    ]
    for method, path, body, content_type in asked:
        other = Face.of(TYPE, RAPIDPRO)
        assert other.ask(method, path, body, Content_Type=content_type).status == 200
        (message,) = other.published
        assert (message.to_addr, message.from_addr, message.content) == (PHONE, "2020", "Simple Message ☺")


def test_repeats(face: Face) -> None:
    """The same id with the same text is sent once within 24 hours, and answered as before; its parts are each sent."""
    words = " ".join(f"word{number}" for number in range(60))
    parts = courier.external("stable", URL, Outgoing(text=words, to=PHONE, id="10"))
    assert len(parts) == 3
    first = [ask(face, part).body for part in parts]
    assert [ask(face, part).body for part in parts] == first
    assert len(face.published) == 3
    assert " ".join(str(message.content) for message in face.published) == words
    assert face.repeats == 3
    face.clock.advance(24 * 3600)
    ask(face, parts[0])
    assert len(face.published) == 4


def test_repeat_while_unanswered(face: Face) -> None:
    """A repeat that comes before the broker has confirmed waits for the first one's answer."""
    face.broker.confirming = False
    (request,) = courier.external("weni", URL, Outgoing(text="hi", to=PHONE, id="10"))
    first, again = (face.begin("POST", request.url, request.body) for _ in range(2))
    (published,) = face.broker.published
    assert not first.received
    published.publication.confirmed.callback(None)
    assert first.response().body == again.response().body


def test_without_id(face: Face) -> None:
    """Messages without an id, also where a version left the variable's name, are each sent."""
    for query in ("", "id=", "id=%7B%7Bid%7D%7D", "id=%7B%7Bid%7D%7D"):
        assert face.ask("GET", f"/send?to=27&text=hi&{query}").status == 200
    assert len(face.published) == 4


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("POST", "/send", b"", 400, "invalid_body"),
        ("POST", "/send?to=27", b"", 400, "invalid_body"),
        ("GET", "/send?to=27&text=%ff", b"", 400, "invalid_body"),
        ("POST", "/send", b'{"to": ', 400, "JsonDecodeError"),
        ("POST", "/send", b'{"to": "27", "text": "x", "to": "28"}', 200, None),
        ("DELETE", "/send", b"", 405, "MethodNotAllowed"),
        ("POST", "/other", b"", 404, "NotFound"),
    ],
)
def test_errors(face: Face, method: str, path: str, body: bytes, status: int, kind: str | None) -> None:
    """An error has RapidPro's form: what would fail again is a 4xx."""
    response = face.ask(method, path, body)
    assert response.status == status
    if kind:
        assert set(response.body) == {"error"}
        assert response.body["error"]["type"] == kind


def test_rate_limit() -> None:
    """A message over the rate limit is a 503: RapidPro takes a 429 for its end."""
    face = Face.of(TYPE, RAPIDPRO, rate_limit=0.01)
    query = urlencode({"to": "27", "text": "hi"})
    statuses = [face.ask("GET", f"/send?{query}").status for _ in range(2)]
    assert statuses == [200, 503]


@pytest.mark.parametrize("authorization", ["Token a-token", "Basic dXNlcjpwYXNz"])
def test_api_auth(authorization: str) -> None:
    """The Authorization header of the channel's form is checked."""
    face = Face.of(TYPE, RAPIDPRO, api_auth={"tokens": ["a-token"], "users": {"user": "pass"}})
    message = Outgoing(text="hi", to=PHONE)
    (request,) = courier.external("current", URL, message, authorization=authorization)
    assert ask(face, request).status == 200
    (forged,) = courier.external("current", URL, message, authorization="Token wrong")
    response: Any = ask(face, forged)
    assert (response.status, response.body["error"]["type"]) == (401, "Unauthorized")
