"""The requests of RapidPro's courier become messages, and messages become its requests."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest

from junebug_turn.applications.rapidpro.messages import OutboundRequest, form, inbound_to_form, status_path
from junebug_turn.applications.rapidpro.parameters import Parameters
from junebug_turn.errors import InvalidBody
from junebug_turn.messages.vumi import Event, Message


def request(**body: Any) -> OutboundRequest:
    return OutboundRequest.from_parameters(Parameters({}, {"to": "+27", "text": "hi", **body}))


def inbound(**fields: Any) -> Message:
    base: dict[str, Any] = {
        "to_addr": "*120#",
        "from_addr": "+27",
        "transport_name": "t",
        "transport_type": "ussd",
    }
    return Message(**{**base, "timestamp": datetime(2026, 1, 2, 3, 4, 5), **fields})


def test_request() -> None:
    """Each parameter has its place; what is unknown is passed over."""
    made = request(
        **{"id": "7", "from": "8110", "session_status": "w", "quick_replies": ["Yes", "No"]},
        channel="ca1a",
        to_no_plus="27",
        other=[1],
    )
    assert (made.to, made.from_addr, made.content) == ("+27", "8110", "hi\n1. Yes\n2. No")
    assert (made.id, made.status, made.choices) == ("7", "W", ("Yes", "No"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ""),
        ({"id": "7"}, "7"),
        ({"uuid": "0199"}, "0199"),
        ({"id": "7", "uuid": "0199"}, "7"),
        ({"id": "{{id}}", "uuid": "0199"}, "0199"),
        ({"id": "", "uuid": "{{ uuid }}"}, ""),
    ],
)
def test_id(fields: dict[str, Any], expected: str) -> None:
    """The id is in `id` or `uuid`."""
    assert request(**fields).id == expected


@pytest.mark.parametrize(("to", "expected"), [(" 27", "+27"), ("27 ", "27"), ("+27", "+27")])
def test_to(to: str, expected: str) -> None:
    """A number is taken as it comes; a plus that became a space in the URL is one."""
    assert request(to=to).to == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"to": ""}, "'to' is required"),
        ({"to": None}, "'to' is required"),
        ({"to": 27}, "'to' must be a text"),
        ({"text": None}, "'text' is required"),
        ({"id": "x" * 256}, "'id' must not be longer than 255 characters"),
        ({"to": "2" * 256}, "'to' must not be longer than 255 characters"),
        ({"from": "2" * 256}, "'from' must not be longer than 255 characters"),
        ({"quick_replies": ["x"] * 100}, "at most 99 quick replies"),
        ({"session_status": 1}, "'session_status' must be a text"),
    ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
    """A parameter that is needed and missing, or wrong, is named."""
    with pytest.raises(InvalidBody, match=message):
        request(**fields)


def test_key() -> None:
    """A repeat has the same id, address and text; a further part has another text."""
    assert request(id="7").key == request(id="7", session_status="W").key
    keys = {
        request(**each).key
        for each in ({"id": "7"}, {"id": "8"}, {"id": "7", "text": "b"}, {"id": "7", "to": "2"})
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("fields", "start", "text"),
    [
        ({"content": "ü & 1"}, None, "ü & 1"),
        ({"content": "hi", "session_event": "new"}, "start", "hi"),
        ({"content": None, "session_event": "new"}, None, "*120#"),
        ({"content": "", "session_event": "new"}, "start", "start"),
        ({"content": None, "session_event": "resume"}, "start", ""),
        ({"content": "\ud800"}, None, "?"),
    ],
)
def test_inbound(fields: dict[str, Any], start: str | None, text: str) -> None:
    """An inbound message is a form of from, text and date; a session's start without text has one all the same."""
    message = inbound(**fields)
    body = inbound_to_form(message, message.content, start)
    assert parse_qsl(body.decode(), keep_blank_values=True) == [
        ("from", "+27"),
        ("text", text),
        ("date", "2026-01-02T03:04:05.000000Z"),
    ]


def test_no_sender() -> None:
    """A message without a sender can be written, too; RapidPro refuses it."""
    assert form({"from": ""}) == b"from="
    assert inbound_to_form(inbound(from_addr=None), "x", None).startswith(b"from=&text=x&")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"event_type": "ack"}, "/sent"),
        ({"event_type": "nack"}, "/failed"),
        ({"event_type": "delivery_report", "delivery_status": "delivered"}, "/delivered"),
        ({"event_type": "delivery_report", "delivery_status": "failed"}, "/failed"),
        ({"event_type": "delivery_report", "delivery_status": "pending"}, None),
    ],
)
def test_status_path(fields: dict[str, Any], path: str | None) -> None:
    """Each event has its path; RapidPro has no word for pending."""
    assert status_path(Event(user_message_id="m", **fields)) == path
