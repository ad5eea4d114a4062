"""The packed form of messages and events, in memory and in SQLite."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given

from junebug_turn.messages.vumi import Event, Message
from junebug_turn.state import packing
from junebug_turn.state.message_store import OutboundRecord
from junebug_turn.state.packing import MAX_EVENTS
from tests.support import strategies
from tests.support.store_harness import event, outbound

# Written before the modules moved: files with such values exist.
AT = datetime(2030, 1, 2, 3, 4, 5, 678901)
MESSAGE = Message(
    message_id="m1",
    to_addr="8110",
    from_addr="+27831234567",
    transport_name="t",
    transport_type="ussd",
    content="molo ☺",
    session_event="resume",
    helper_metadata={"a": [1, None]},
    timestamp=AT,
)
PACKED_MESSAGE = (
    rb'["2030-01-02 03:04:05.678901","8110","+27831234567","t","ussd","molo \u263a","resume",'
    rb'null,null,null,null,null,{},{"a":[1,null]},{}]'
)
EVENT = Event(user_message_id="m1", event_id="e1", event_type="nack", nack_reason="no", timestamp=AT)
PACKED_EVENT = b'[["2030-01-02 03:04:05.678901","nack",null,"no",null,"e1",{},{},{}]]'


def test_written_form() -> None:
    """Messages, records and events have the bytes that existing files have, and are read from them."""
    assert packing.pack_message(MESSAGE) == PACKED_MESSAGE
    assert packing.unpack_message("m1", PACKED_MESSAGE) == MESSAGE
    record = OutboundRecord("m2", "+27", "http://h/e", "tk", {"content": "not kept"})
    packed = packing.pack_outbound(record)
    assert packed == b'["+27","http://h/e","tk"]'
    assert packing.unpack_outbound("m2", packed) == OutboundRecord("m2", "+27", "http://h/e", "tk")
    assert packing.add_event(None, EVENT) == PACKED_EVENT
    assert packing.unpack_events("m1", PACKED_EVENT) == [EVENT]


@given(strategies.messages)
def test_any_message(message: Message) -> None:
    """Any message is unpacked as it was, and its address can be read alone."""
    packed = packing.pack_message(message)
    assert packing.unpack_message(message.message_id, packed) == message
    assert packing.packed_from_addr(packed) == message.from_addr


def test_same_event_id() -> None:
    """An event replaces the earlier one with its id, in its place."""
    packed = None
    for one in (event("m1", "e1"), event("m1", "e2"), event("m1", "e1", sent_message_id="again")):
        packed = packing.add_event(packed, one)
    assert packed is not None
    events = packing.unpack_events("m1", packed)
    assert [(one.event_id, one.sent_message_id) for one in events] == [("e1", "again"), ("e2", None)]


def test_events_are_bounded() -> None:
    """Of a message with very many events the last ones are kept."""
    packed = None
    for n in range(MAX_EVENTS + 5):
        packed = packing.add_event(packed, event("m1", f"e{n}"))
    assert packed is not None
    known = [one.event_id for one in packing.unpack_events("m1", packed)]
    assert known == [f"e{n}" for n in range(5, MAX_EVENTS + 5)]


@pytest.mark.parametrize("packed", [b"", b"x", b"[1]", b"1", b"null", b"{}", b"[1,2,3,4,5,6]", b"\xff"])
def test_foreign_values(packed: bytes) -> None:
    """A value that was not packed here is one of the exceptions that the stores expect."""
    damaged = (ValueError, TypeError, IndexError)
    with pytest.raises(damaged):
        packing.unpack_message("m1", packed)
    with pytest.raises(damaged):
        packing.unpack_outbound("m1", packed)
    if packed != b"{}":
        with pytest.raises(damaged):
            packing.unpack_events("m1", packed)
        with pytest.raises((*damaged, KeyError)):
            packing.add_event(packed, event())


def test_record_without_address() -> None:
    """A record without address, URL and token is unpacked as such."""
    record = OutboundRecord("m1", None)
    assert packing.unpack_outbound("m1", packing.pack_outbound(record)) == record
    assert packing.unpack_outbound("m1", packing.pack_outbound(outbound())) == outbound()
