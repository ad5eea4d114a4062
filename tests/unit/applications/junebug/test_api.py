"""Routes of the Junebug Message API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from junebug_turn.applications.junebug import TYPE
from junebug_turn.messages.vumi import Event
from tests.support.application_harness import Face, done
from tests.support.configurations import JUNEBUG

BODY = b'{"content": "c", "to": "1", "from": "2"}'


@pytest.fixture
def face() -> Face:
    return Face.of(TYPE, JUNEBUG)


@pytest.mark.parametrize("slash", ["", "/"])
def test_send(face: Face, slash: str) -> None:
    """An outbound message is answered with 201 and the message, with and without a slash at the end."""
    response = face.ask("POST", f"/messages{slash}", BODY)
    (message,) = face.published
    result = response.body.pop("result")
    assert response.body == {"status": 201, "code": "Created", "description": "message submitted"}
    assert (result["message_id"], result["to"], result["channel_id"]) == (message.message_id, "1", "sms")


def test_repeat(face: Face) -> None:
    """A request with a known Idempotency-Key has the first answer; one with another body is refused."""
    first = face.ask("POST", "/messages", BODY, Idempotency_Key="k")
    assert face.ask("POST", "/messages", BODY, Idempotency_Key="k").body == first.body
    assert face.ask("POST", "/messages", BODY + b" ", Idempotency_Key="k").status == 422
    assert (len(face.published), face.repeats) == (1, 1)


def test_without_key(face: Face) -> None:
    """Requests without a key are messages of their own, also with the same bytes."""
    for _ in range(2):
        face.ask("POST", "/messages", BODY)
    assert (len(face.published), face.repeats) == (2, 0)


@pytest.mark.parametrize("key", [{}, {"Idempotency_Key": "k"}])
def test_client_goes_away(face: Face, key: dict[str, str]) -> None:
    """A message that wasn't handed to the broker is withdrawn when its client goes away."""
    face.broker.confirming = False
    face.begin("POST", "/messages", BODY, **key).lose()
    (published,) = face.broker.published
    assert published.publication.confirmed.called


def test_client_goes_away_while_a_repeat_waits(face: Face) -> None:
    """It is not withdrawn while a repeat waits for it, which gets the answer."""
    face.broker.confirming = False
    first = face.begin("POST", "/messages", BODY, Idempotency_Key="k")
    repeat = face.begin("POST", "/messages", BODY, Idempotency_Key="k")
    first.lose()
    (published,) = face.broker.published
    assert not published.publication.confirmed.called
    published.publication.confirmed.callback(None)
    assert repeat.response().status == 201


def test_status(face: Face) -> None:
    """The status of a message lists its events in the order of their times; that of an unknown one has none."""
    for kind in ("ack", "nack"):
        event = Event(user_message_id="m", event_type=kind)
        done(face.application.handle_event(event))
    response = face.ask("GET", "/messages/m")
    assert (response.status, response.body["description"]) == (200, "message status")
    result: dict[str, Any] = response.body["result"]
    assert [event["event_type"] for event in result["events"]] == ["submitted", "rejected"]
    assert result["last_event_type"] == "rejected"
    assert face.ask("GET", "/messages/unknown").body["result"]["events"] == []


def test_depth(face: Face) -> None:
    """A body that nests deeper than max_json_depth is refused."""
    nested: Any = "x"
    for _ in range(10):
        nested = [nested]
    response = face.ask("POST", "/messages", json.dumps({"content": nested}).encode())
    assert response.body["result"]["errors"][0]["type"] == "JsonDecodeError"
