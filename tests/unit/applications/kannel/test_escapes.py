"""Kannel's escapes in URLs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from junebug_turn.applications.kannel.escapes import dlr_status, event_escapes, fill, message_escapes
from junebug_turn.messages.vumi import Event, Message

AT = datetime(2026, 1, 2, 3, 4, 5, 678901)


@pytest.mark.parametrize(
    ("url", "filled"),
    [
        ("http://h/%d/?a=%P", "http://h/8/?a=%2B27+%26%C3%BC"),
        ("http://h/?d=%d%d", "http://h/?d=88"),
        ("http://h/?a=%%d&b=%20%%20", "http://h/?a=%d&b=%20%20"),
        ("http://h/?a=%x&b=%", "http://h/?a=%x&b=%"),
        ("http://h/", "http://h/"),
    ],
)
def test_fill(url: str, filled: str) -> None:
    """Escapes are replaced, percent-encoded; two percent signs are one; what has no value stays."""
    assert fill(url, {"d": "8", "P": "+27 &ü"}) == filled


def test_half_a_surrogate_pair() -> None:
    """What is no UTF-8 becomes a question mark."""
    assert fill("%a", {"a": "\ud800"}) == "%3F"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"event_type": "ack"}, 8),
        ({"event_type": "nack"}, 16),
        ({"event_type": "delivery_report", "delivery_status": "delivered"}, 1),
        ({"event_type": "delivery_report", "delivery_status": "failed"}, 2),
        ({"event_type": "delivery_report", "delivery_status": "pending"}, 4),
    ],
)
def test_status(fields: dict[str, Any], status: int) -> None:
    """Each event has its bit."""
    assert dlr_status(Event(user_message_id="m", **fields)) == status


def test_event() -> None:
    """A delivery report has the addresses of the message that it is about, and the SMSC's id of it."""
    event = Event(user_message_id="m1", event_type="ack", sent_message_id="s1", timestamp=AT)
    url = fill("%d|%F|%I|%p|%P|%q|%Q|%t|%T|%A", event_escapes(event, "8110", "0027820000001"))
    assert url == "8|s1|m1|8110|0027820000001|8110|%2B27820000001|2026-01-02+03%3A04%3A05|1767323045|"
    nack = Event(user_message_id="m1", event_type="nack", nack_reason="no credit", timestamp=AT)
    assert fill("%d|%F|%A", event_escapes(nack, "", "")) == "16||no+credit"


def test_message() -> None:
    """An inbound message has its text, its addresses, its time and its id."""
    message = Message(
        to_addr="8110",
        from_addr="0027820000001",
        transport_name="t",
        transport_type="sms",
        content=" Molo  ☺\n& ",
        message_id="m1",
        timestamp=AT,
    )
    escapes = message_escapes(message)
    assert fill("%a|%b|%A", escapes) == "Molo+%E2%98%BA+%26|" + "|".join(["+Molo++%E2%98%BA%0A%26+"] * 2)
    assert fill("%p|%P|%q|%Q|%T|%I", escapes) == "0027820000001|8110|%2B27820000001|8110|1767323045|m1"
    empty = Message(to_addr=None, from_addr=None, transport_name=None, transport_type=None)
    assert fill("%a|%p|%P|%q", message_escapes(empty)) == "|||"
