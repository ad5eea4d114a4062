"""Junebug's JSON to and from vumi's messages."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug_turn.applications.junebug.messages import (
    OutboundRequest,
    event_to_json,
    message_to_json,
)
from junebug_turn.errors import ApiUsageError, InvalidBody
from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import SESSION_EVENTS, TRANSPORT_TYPES, Event, Message
from tests.support.strategies import events, json_objects, json_values, messages

INBOUND = Message(
    to_addr="8110",
    from_addr="+26612345678",
    transport_name="ussd_transport",
    transport_type="ussd",
    group="g",
    provider="mtn",
    transport_metadata={"session": 7},
    message_id="inbound-id",
)


def parse(**fields: Any) -> OutboundRequest:
    return OutboundRequest.from_json({"content": "hi", **fields})


def reply(**fields: Any) -> Message:
    return parse(**fields).as_reply(INBOUND, transport_name="conn", transport_type="sms")


def new(default_from_addr: str | None = None, **fields: Any) -> Message:
    request = parse(to="+27123", **fields)
    return request.as_new(default_from_addr=default_from_addr, transport_name="conn", transport_type="sms")


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("to", 255),
        ("from", 255),
        ("group", 255),
        ("reply_to", 255),
        ("priority", 255),
        ("event_auth_token", 4096),
        ("event_url", 8192),
    ],
)
def test_lengths(field: str, most: int) -> None:
    """What is remembered of a message has a length that makes sense; what is longer is refused, and the field named."""
    start = "http://h/" if field == "event_url" else ""
    parse(**{"to": "+27123", field: start + "x" * (most - len(start))})
    with pytest.raises(InvalidBody, match=f"^u'{field}' must not be longer than {most} characters$"):
        parse(**{"to": "+27123", field: start + "x" * (most + 1 - len(start))})


def test_content_of_any_length() -> None:
    """A content is as long as it is: the body's limit bounds it, and character_limit."""
    assert len(parse(to="+27123", content="x" * 200_000).content or "") == 200_000


@pytest.mark.parametrize("body", [None, 1, 1.5, "a", [], True])
def test_body_must_be_an_object(body: object) -> None:
    """A body that is not an object is an invalid body."""
    with pytest.raises(InvalidBody, match="must be an object"):
        OutboundRequest.from_json(body)


def test_unknown_field() -> None:
    """An unknown field is refused with the message that old Junebug has for it."""
    with pytest.raises(InvalidBody) as caught:
        parse(to="1", foo=1)
    assert str(caught.value) == "Additional properties are not allowed (u'foo' was unexpected)"


def test_content_is_required() -> None:
    """A missing content is refused with the message that old Junebug has for it."""
    with pytest.raises(InvalidBody) as caught:
        OutboundRequest.from_json({"to": "1"})
    assert str(caught.value) == "u'content' is a required property"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ([], ("type",)),
        ({}, ("required",)),
        ({"content": "hi", "foo": 1}, ("additionalProperties",)),
        ({"content": 5}, ("properties", "content", "type")),
        ({"content": "hi", "priority": []}, ("properties", "priority", "type")),
        (
            {"content": "hi", "channel_data": {"continue_session": 5}},
            ("properties", "channel_data", "properties", "continue_session", "type"),
        ),
        ({"content": "hi", "to": "+27", "event_url": "ftp://h/"}, ("properties", "event_url")),
    ],
)
def test_schema_path(body: Any, path: tuple[str, ...]) -> None:
    """An error of the body has the path to the part of Junebug's JSON Schema that refuses it."""
    with pytest.raises(InvalidBody) as caught:
        OutboundRequest.from_json(body)
    assert caught.value.faults == ((str(caught.value), path),)


def test_content_may_be_null() -> None:
    """A null content stays null on the wire."""
    message = new(content=None, **{"from": "8110"})
    assert message.content is None
    assert b'"content":null' in message.to_json()


@pytest.mark.parametrize(
    "fields", [{}, {"to": None}, {"to": None, "reply_to": None}, {"to": "", "reply_to": ""}]
)
def test_neither_to_nor_reply_to(fields: dict[str, Any]) -> None:
    """A request without to and reply_to is refused with the message that old Junebug has for it."""
    with pytest.raises(ApiUsageError) as caught:
        parse(**fields)
    assert str(caught.value) == 'Either "to" or "reply_to" must be specified'


@pytest.mark.parametrize(
    "field", ["to", "from", "group", "reply_to", "content", "event_url", "event_auth_token", "channel_data"]
)
@pytest.mark.parametrize("value", [1, 1.5, True, ["a"]])
def test_wrong_types(field: str, value: object) -> None:
    """A wrong type is refused and the field is named; nothing is coerced."""
    with pytest.raises(InvalidBody, match=f"u'{field}' must be"):
        parse(**{"to": "1", field: value})


@pytest.mark.parametrize("value", [True, 1.5, [], {}])
def test_wrong_priority(value: object) -> None:
    """priority is an int or a string, nothing else."""
    with pytest.raises(InvalidBody, match="u'priority' must be"):
        parse(to="1", priority=value)


@pytest.mark.parametrize("value", [None, 1, 1.0, -2e3, "high"])
def test_priority_is_ignored(value: object) -> None:
    """priority may be an int (which 1.0 is in JSON) or a string and is ignored."""
    assert parse(to="1", priority=value) == parse(to="1")


def test_optional_fields_may_be_null() -> None:
    """Every optional field may be null, and is then as if absent."""
    names = ("from", "group", "reply_to", "event_url", "event_auth_token", "priority", "channel_data")
    assert parse(to="1", **dict.fromkeys(names)) == parse(to="1")


@pytest.mark.parametrize(
    "url", ["ftp://h/", "/events", "http://", "http://[::1", "http://h:x/", "javascript:alert(1)"]
)
def test_event_url_must_be_a_url(url: str) -> None:
    """An event_url that no event could ever reach is refused at once, and the field is named."""
    with pytest.raises(InvalidBody, match="u'event_url' must be"):
        parse(to="1", event_url=url)


def test_new_message() -> None:
    """A non-reply takes transport_name from the connector and transport_type from the configuration."""
    message = new(group="g", channel_data={"direct_message": True}, **{"from": "8110"})
    assert message == Message(
        to_addr="+27123",
        from_addr="8110",
        group="g",
        content="hi",
        transport_name="conn",
        transport_type="sms",
        helper_metadata={"direct_message": True},
        message_id=message.message_id,
        timestamp=message.timestamp,
    )


@pytest.mark.parametrize(
    ("channel_data", "session_event"),
    [
        ({}, None),
        ({"continue_session": True}, None),
        ({"continue_session": None}, None),
        ({"continue_session": False}, "close"),
        ({"session_event": "resume"}, "resume"),
        ({"session_event": "new", "continue_session": False}, "new"),
        ({"session_event": None, "continue_session": False}, "close"),
    ],
)
def test_session_of_a_reply(channel_data: dict[str, Any], session_event: str | None) -> None:
    """continue_session false on a reply closes the session, a given session_event is honoured, else it is null."""
    message = reply(reply_to="inbound-id", channel_data={"other": 1, **channel_data})
    assert message.session_event == session_event
    assert message.helper_metadata == {"other": 1}


def test_session_of_a_new_message() -> None:
    """On a non-reply continue_session closes nothing, and both session keys leave channel_data."""
    message = new(default_from_addr="8110", channel_data={"continue_session": False})
    assert (message.session_event, message.helper_metadata) == (None, {})
    message = new(default_from_addr="8110", channel_data={"session_event": "new"})
    assert (message.session_event, message.helper_metadata) == ("new", {})


@pytest.mark.parametrize(
    "channel_data",
    [{"session_event": "pause"}, {"session_event": 1}, {"session_event": []}, {"continue_session": "false"}],
)
def test_invalid_session(channel_data: dict[str, Any]) -> None:
    """An invalid session_event or continue_session is refused, and the key is named."""
    with pytest.raises(InvalidBody, match=re.escape(f"u'channel_data.{next(iter(channel_data))}'")):
        parse(to="1", channel_data=channel_data)


def test_message_to_json() -> None:
    """An inbound message has exactly Junebug's keys, nulls present, and session_event in channel_data."""
    message = Message(
        to_addr="+27821234567",
        from_addr="12345",
        transport_name="bc5f2e63",
        transport_type="sms",
        message_id="35f3",
        timestamp=datetime(2015, 10, 6, 14, 16, 34, 578820),
        content="Test message",
        session_event="new",
        helper_metadata={"a": 1},
    )
    assert message_to_json(message, message.transport_name) == {
        "to": "+27821234567",
        "from": "12345",
        "group": None,
        "message_id": "35f3",
        "channel_id": "bc5f2e63",
        "timestamp": "2015-10-06 14:16:34.578820",
        "reply_to": None,
        "content": "Test message",
        "channel_data": {"a": 1, "session_event": "new"},
    }
    assert message.helper_metadata == {"a": 1}


def test_no_session_event_in_channel_data() -> None:
    """session_event stands in channel_data only when it is not null."""
    assert message_to_json(INBOUND, None)["channel_data"] == {}


@pytest.mark.parametrize(
    ("fields", "event_type", "details"),
    [
        ({"event_type": "ack", "sent_message_id": "s"}, "submitted", {}),
        ({"event_type": "nack", "nack_reason": "no credit"}, "rejected", {"reason": "no credit"}),
        ({"event_type": "delivery_report", "delivery_status": "pending"}, "delivery_pending", {}),
        ({"event_type": "delivery_report", "delivery_status": "failed"}, "delivery_failed", {}),
        ({"event_type": "delivery_report", "delivery_status": "delivered"}, "delivery_succeeded", {}),
    ],
)
def test_event_to_json(fields: dict[str, Any], event_type: str, details: dict[str, Any]) -> None:
    """Each event has Junebug's name for it, and its details."""
    event = Event(user_message_id="m", timestamp=datetime(2015, 6, 15, 13), **fields)
    assert event_to_json(event, "conn") == {
        "event_type": event_type,
        "message_id": "m",
        "channel_id": "conn",
        "timestamp": "2015-06-15 13:00:00.000000",
        "event_details": details,
    }


@given(events)
def test_every_event_can_be_told(event: Event) -> None:
    """Every event that can be read can be told to Junebug's clients."""
    strictjson.dumps(event_to_json(event, "conn"))


names = st.sampled_from(
    [
        "to",
        "from",
        "group",
        "reply_to",
        "content",
        "event_url",
        "event_auth_token",
        "priority",
        "channel_data",
        "x",
    ]
)


@given(
    json_values
    | json_objects
    | st.dictionaries(names, json_values | st.dictionaries(names, json_values), max_size=6),
    messages,
)
def test_any_request(body: Any, inbound: Message) -> None:
    """Any JSON value is a usage error or a valid vumi message, whose session_event left helper_metadata."""
    try:
        request = OutboundRequest.from_json(body)
        message = request.as_reply(inbound, transport_name="conn", transport_type="sms")
        if request.to is not None:
            new_message = request.as_new(
                default_from_addr="8110", transport_name="conn", transport_type="sms"
            )
            assert new_message.to_addr == body["to"]
    except (InvalidBody, ApiUsageError):
        return
    assert "session_event" not in message.helper_metadata
    assert message.session_event in {None, *SESSION_EVENTS}
    assert message.transport_type in TRANSPORT_TYPES
    assert message.content == body["content"]
    assert Message.from_json(message.to_json()) == message
