"""vumi's messages and events on the wire."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given

from junebug_turn.errors import UnreadableMessage
from junebug_turn.messages.vumi import Event, Message, TransportStatus, format_timestamp, parse_timestamp
from tests.support.strategies import events, json_objects, json_values, messages, timestamps

MESSAGE_KEYS = {
    "to_addr",
    "from_addr",
    "transport_name",
    "transport_type",
    "message_version",
    "message_type",
    "timestamp",
    "routing_metadata",
    "helper_metadata",
    "message_id",
    "in_reply_to",
    "provider",
    "session_event",
    "content",
    "transport_metadata",
    "group",
    "to_addr_type",
    "from_addr_type",
}
EVENT_KEYS = {
    "user_message_id",
    "event_id",
    "event_type",
    "message_version",
    "message_type",
    "timestamp",
    "routing_metadata",
    "helper_metadata",
    "transport_metadata",
    "sent_message_id",
    "nack_reason",
    "delivery_status",
}


def a_message(**fields: Any) -> Message:
    return Message(
        **{"to_addr": "1", "from_addr": "2", "transport_name": "t", "transport_type": "sms", **fields}
    )


@given(messages)
def test_message_round_trip(message: Message) -> None:
    """A user message is read as it was written, whatever its fields hold."""
    assert Message.from_json(message.to_json()) == message


@given(events)
def test_event_round_trip(event: Event) -> None:
    """An event is read as it was written, whatever its fields hold."""
    assert Event.from_json(event.to_json()) == event


def test_message_has_exactly_the_keys() -> None:
    """A user message has exactly the 18 keys of the format, all always present."""
    fields = json.loads(a_message().to_json())
    assert set(fields) == MESSAGE_KEYS
    assert len(fields) == 18
    assert fields["message_version"] == "20110921"
    assert fields["message_type"] == "user_message"
    assert re.fullmatch(r"[0-9a-f]{32}", fields["message_id"])
    assert fields["routing_metadata"] == fields["helper_metadata"] == fields["transport_metadata"] == {}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", fields["timestamp"])


def test_event_has_exactly_the_keys() -> None:
    """An event has exactly the keys of the format."""
    fields = json.loads(Event(user_message_id="1", event_type="ack", sent_message_id="s").to_json())
    assert set(fields) == EVENT_KEYS
    assert fields["message_version"] == "20110921"
    assert fields["message_type"] == "event"


def test_timestamp_is_utc_now() -> None:
    """A new message's timestamp is now, in UTC."""
    now = datetime.now(UTC).replace(tzinfo=None)
    assert abs((a_message().timestamp - now).total_seconds()) < 60


@given(timestamps)
def test_timestamp_format(timestamp: datetime) -> None:
    """A timestamp is written as %Y-%m-%d %H:%M:%S.%f, with all six digits of the fraction."""
    assert format_timestamp(timestamp) == timestamp.strftime("%Y-%m-%d %H:%M:%S.%f").rjust(26, "0")
    assert parse_timestamp(format_timestamp(timestamp)) == timestamp


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2015-10-06 14:16:34.578820", datetime(2015, 10, 6, 14, 16, 34, 578820)),
        ("2015-10-06 14:16:34.578820Z", datetime(2015, 10, 6, 14, 16, 34, 578820)),
        ("2015-10-06 14:16:34", datetime(2015, 10, 6, 14, 16, 34)),
        ("2015-10-06T14:16:34Z", datetime(2015, 10, 6, 14, 16, 34)),
        ("2015-10-06T16:16:34+02:00", datetime(2015, 10, 6, 14, 16, 34)),
        ("2015-10-06 14:16:34.5", datetime(2015, 10, 6, 14, 16, 34, 500000)),
    ],
)
def test_timestamps_are_read_leniently(text: str, expected: datetime) -> None:
    """A trailing Z, a zone or no fraction in a timestamp doesn't stop a message."""
    body = json.loads(a_message().to_json()) | {"timestamp": text}
    assert Message.from_json(json.dumps(body).encode()).timestamp == expected


@pytest.mark.parametrize("timestamp", [None, "yesterday", 7, [], "0001-01-01T00:00:00+14:00"])
def test_unreadable_timestamp_is_now(timestamp: object) -> None:
    """A timestamp that can't be read doesn't stop a message: it gets the time of arrival."""
    body = json.loads(a_message().to_json()) | {"timestamp": timestamp}
    age = Message.from_json(json.dumps(body).encode()).timestamp - datetime.now(UTC).replace(tzinfo=None)
    assert abs(age.total_seconds()) < 60


def test_lenient_reading() -> None:
    """Extra keys, a null from_addr, a null or unknown transport_type and absent keys don't stop a message."""
    read = Message.from_json(
        b'{"message_id": "m", "from_addr": null, "transport_type": "pigeon", "extra": 1, "to_addr": 27123}'
    )
    assert (read.message_id, read.from_addr, read.transport_type, read.to_addr) == (
        "m",
        None,
        "pigeon",
        "27123",
    )
    assert Message.from_json(b'{"message_id": "m", "transport_type": null}').transport_type is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "list, not an object"),
        (b"null", "not an object"),
        (b"{}", "no message_id"),
        (b'{"message_id": null}', "no message_id"),
        (b'{"message_id": 5}', "no message_id"),
        (b'{"message_id": ""}', "no message_id"),
    ],
)
def test_unreadable_messages(body: bytes, words: str) -> None:
    """What is not JSON, not an object or without message id is unreadable."""
    with pytest.raises(UnreadableMessage, match=words):
        Message.from_json(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[", "not JSON"),
        (b'{"event_type": "ack"}', "no user_message_id"),
        (b'{"user_message_id": "m"}', "no known event_type"),
        (b'{"user_message_id": "m", "event_type": ["ack"]}', "no known event_type"),
        (b'{"user_message_id": "m", "event_type": "delivery_report"}', "no known delivery_status"),
        (
            b'{"user_message_id": "m", "event_type": "delivery_report", "delivery_status": {}}',
            "no known delivery_status",
        ),
    ],
)
def test_unreadable_events(body: bytes, words: str) -> None:
    """An event that doesn't say of what, or what became of it, is unreadable."""
    with pytest.raises(UnreadableMessage, match=words):
        Event.from_json(body)


@given(json_objects)
def test_any_object_is_a_message_or_unreadable(fields: dict[str, Any]) -> None:
    """Any JSON object is a message, or unreadable; and a message that was read can be written."""
    for known in (fields, dict.fromkeys(MESSAGE_KEYS, fields) | {"message_id": "m"}):
        try:
            Message.from_json(json.dumps(known).encode()).to_json()
        except UnreadableMessage:
            pass


@given(json_values)
def test_any_value_in_any_field(value: object) -> None:
    """A value of any type in any field stops neither message nor event, where the id is right."""
    body = dict.fromkeys(MESSAGE_KEYS, value) | {"message_id": "m"}
    Message.from_json(json.dumps(body).encode()).to_json()
    body = dict.fromkeys(EVENT_KEYS, value) | {"user_message_id": "m", "event_type": "ack"}
    Event.from_json(json.dumps(body).encode()).to_json()


def test_status() -> None:
    """A status is read as vumi's transports write it, and written with exactly vumi's keys."""
    theirs = {
        "message_version": "20110921",
        "message_type": "status_event",
        "timestamp": "2021-01-14 10:00:00.000001",
        "routing_metadata": {},
        "helper_metadata": {"h": 1},
        "reasons": ["r"],
        "details": {"d": 1},
        "component": "smpp",
        "status": "degraded",
        "type": "throttled",
        "message": "Throttled",
    }
    assert json.loads(TransportStatus.from_json(json.dumps(theirs).encode()).to_json()) == theirs


@given(json_objects)
def test_lenient_status(fields: dict[str, Any]) -> None:
    """Whatever else a status has doesn't stop it, as long as it has a component and a known status."""
    body = json.dumps({**fields, "component": "c", "status": "down"}).encode()
    read = TransportStatus.from_json(body)
    assert (read.component, read.status) == ("c", "down")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"component": "", "status": "ok"}', b'{"component": "c", "status": []}']
)
def test_unreadable_status(body: bytes) -> None:
    """One that says nothing is refused."""
    with pytest.raises(UnreadableMessage):
        TransportStatus.from_json(body)
