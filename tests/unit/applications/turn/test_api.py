"""Routes of the Turn Channels API."""

from __future__ import annotations

import pytest

from junebug_turn.applications.turn import TYPE
from junebug_turn.applications.turn.signature import sign
from tests.support.application_harness import Face
from tests.support.configurations import TURN
from tests.support.http_harness import Client

BODY = b'{"to": "+27123", "turn": {"type": "text", "text": {"body": "hi"}}}'


@pytest.fixture
def face() -> Face:
    return Face.of(TYPE, TURN, rate_limit=0.01)


def webhook(face: Face, body: bytes = BODY, path: str = "/messages") -> Client:
    signature = sign(TURN["turn_hmac_secret"].encode(), body).decode()
    return face.begin("POST", path, body, X_Turn_Hook_Signature=signature)


@pytest.mark.parametrize("slash", ["", "/"])
def test_send(face: Face, slash: str) -> None:
    """A webhook is answered with 200 and the message's id, with and without a slash at the end."""
    response = webhook(face, path=f"/messages{slash}").response()
    (message,) = face.published
    assert (response.status, response.body) == (200, {"messages": [{"id": message.message_id}]})


def test_signature(face: Face) -> None:
    """A request without the signature of its body is a 401, before its body is read, and counts for no rate limit."""
    response = face.ask("POST", "/messages", b"{", X_Turn_Hook_Signature="x")
    assert (response.status, response.body["errors"][0]["type"]) == (401, "Unauthorized")
    assert webhook(face).response().status == 200


def test_rate_limit(face: Face) -> None:
    """A webhook over the rate limit is a 503, since Turn comes again after no other status."""
    webhook(face)
    response = webhook(face, BODY + b" ").response()
    assert (response.status, response.body["errors"][0]["type"]) == (503, "RateLimited")
    assert "retry-after" in response.headers


@pytest.mark.parametrize(
    ("options", "seconds"), [({}, 4), ({"webhook_answer_timeout": 3}, 3), ({"request_timeout": 2}, 2)]
)
def test_answered_in_time(options: dict[str, float], seconds: float) -> None:
    """The webhook is answered within webhook_answer_timeout (4 s, since Turn gives up after 5): when the broker has
    not confirmed by then, 503."""
    face = Face.of(TYPE, TURN, **options)
    face.broker.confirming = False
    client = webhook(face)
    face.clock.advance(seconds - 0.1)
    assert client.received == b""
    face.clock.advance(0.2)
    response = client.response()
    assert (response.status, response.body["errors"][0]["type"]) == (503, "AmqpConnectionError")
    assert "retry-after" in response.headers


def test_again_while_unanswered() -> None:
    """A webhook that comes again before its answer is the same message, and both are answered alike."""
    face = Face.of(TYPE, TURN)
    face.broker.confirming = False
    first, again = webhook(face), webhook(face)
    (published,) = face.broker.published
    published.publication.confirmed.callback(None)
    assert first.response().body == again.response().body
    assert face.repeats == 1


def test_again_after_the_answer() -> None:
    """Once it was answered the same bytes are a new message."""
    face = Face.of(TYPE, TURN)
    assert webhook(face).response().body != webhook(face).response().body
    assert (len(face.published), face.repeats) == (2, 0)


def test_again_after_the_client_left() -> None:
    """Turn gives up while the broker is slow; the message is not withdrawn, and what comes again gets its answer."""
    face = Face.of(TYPE, TURN)
    face.broker.confirming = False
    webhook(face).lose()
    (published,) = face.broker.published
    assert not published.publication.confirmed.called
    published.publication.confirmed.callback(None)
    (message,) = face.published
    assert webhook(face).response().body == {"messages": [{"id": message.message_id}]}
