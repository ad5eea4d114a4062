"""Packed form of messages and events in memory and in SQLite: JSON arrays of the values, in the order of the fields."""

from __future__ import annotations

from operator import attrgetter

import attrs

from junebug_turn.messages import strictjson
from junebug_turn.messages.vumi import Event, Message, format_timestamp, parse_timestamp
from junebug_turn.state.message_store import OutboundRecord

MAX_EVENTS = 50
"""Events that are kept of one message, the last ones: a peer that sends events without end fills no memory."""

# The id of the message is the key, and the time needs a form of its own.
_MESSAGE_FIELDS = tuple(
    name for name in attrs.fields_dict(Message) if name not in ("message_id", "timestamp")
)
_EVENT_FIELDS = tuple(
    name for name in attrs.fields_dict(Event) if name not in ("user_message_id", "timestamp")
)
_message_values = attrgetter(*_MESSAGE_FIELDS)
_event_values = attrgetter(*_EVENT_FIELDS)
_FROM_ADDR = 1 + _MESSAGE_FIELDS.index("from_addr")
_EVENT_ID = 1 + _EVENT_FIELDS.index("event_id")


def pack_message(message: Message) -> bytes:
    """Pack a message without its id."""
    return strictjson.dumps([format_timestamp(message.timestamp), *_message_values(message)])


def unpack_message(message_id: str, packed: bytes) -> Message:
    """Unpack the message that ``pack_message`` packed."""
    timestamp, *values = strictjson.loads_stored(packed)
    fields = dict(zip(_MESSAGE_FIELDS, values, strict=True))
    return Message(message_id=message_id, timestamp=parse_timestamp(timestamp), **fields)


def packed_from_addr(packed: bytes) -> str | None:
    """Return the ``from_addr`` of a packed message."""
    addr: str | None = strictjson.loads_stored(packed)[_FROM_ADDR]
    return addr


def pack_outbound(record: OutboundRecord) -> bytes:
    """Pack a record without its id and details."""
    # The last ones only where there are some: they take memory.
    rest = [] if record.traceparent is None else [record.note, record.traceparent]
    if not rest and record.note is not None:
        rest = [record.note]
    return strictjson.dumps([record.to_addr, record.event_url, record.event_auth_token, *rest])


def unpack_outbound(message_id: str, packed: bytes) -> OutboundRecord:
    """Unpack the record that ``pack_outbound`` packed."""
    to_addr, event_url, event_auth_token, *rest = strictjson.loads_stored(packed)
    note, traceparent = rest + [None] * (2 - len(rest))
    return OutboundRecord(
        message_id, to_addr, event_url, event_auth_token, note=note, traceparent=traceparent
    )


def add_event(packed: bytes | None, event: Event) -> bytes:
    """Add an event to the packed events of its message; it replaces an event with the same id."""
    events = [] if packed is None else strictjson.loads_stored(packed)
    values = [format_timestamp(event.timestamp), *_event_values(event)]
    for place, other in enumerate(events):
        if other[_EVENT_ID] == event.event_id:
            events[place] = values
            break
    else:
        events.append(values)
    return strictjson.dumps(events[-MAX_EVENTS:])


def unpack_events(message_id: str, packed: bytes) -> list[Event]:
    """Unpack the events that ``add_event`` packed."""
    return [
        Event(
            user_message_id=message_id,
            timestamp=parse_timestamp(timestamp),
            **dict(zip(_EVENT_FIELDS, values, strict=True)),
        )
        for timestamp, *values in strictjson.loads_stored(packed)
    ]
