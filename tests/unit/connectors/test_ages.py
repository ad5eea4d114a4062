"""The age of the oldest message of a queue."""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from pika import spec

from junebug_turn.amqp.delivery import Delivery
from junebug_turn.connectors.ages import MAX_READ, message_ages
from junebug_turn.messages.vumi import Event, Message, format_timestamp

NOW = datetime(2026, 1, 2, 12)


def delivery(body: bytes, encoding: str | None = None) -> Delivery:
    properties = b"".join(spec.BasicProperties(content_encoding=encoding).encode())
    header = (60).to_bytes(2, "big") + bytes(2) + len(body).to_bytes(8, "big") + properties
    return Delivery(cast(Any, None), 1, body, header)


class Broker:
    """The broker service, with one message under way for each queue."""

    def __init__(self, **deliveries: Delivery) -> None:
        self.deliveries = deliveries

    def oldest(self) -> dict[str, Delivery]:
        return self.deliveries


def ages(**deliveries: Delivery) -> dict[str, float]:
    return message_ages(cast(Any, Broker(**deliveries)), lambda: NOW)


def message(age: float) -> Message:
    return Message(
        to_addr="1",
        from_addr="2",
        transport_name="t",
        transport_type="sms",
        timestamp=NOW - timedelta(seconds=age),
    )


def test_ages() -> None:
    """The age is the time since the message's own timestamp; of a clock that is ahead, 0."""
    event = Event(user_message_id="m", event_type="ack", timestamp=NOW - timedelta(seconds=7))
    assert ages(
        a=delivery(message(90.5).to_json()),
        b=delivery(event.to_json()),
        c=delivery(gzip.compress(message(3).to_json()), "gzip"),
        d=delivery(message(-60).to_json()),
    ) == {"a": 90.5, "b": 7, "c": 3, "d": 0}


@pytest.mark.parametrize("form", ["%sZ", "%s+00:00"])
def test_lenient(form: str) -> None:
    """Timestamps are read as leniently as those of messages that are delivered."""
    stamp = form % format_timestamp(NOW - timedelta(seconds=5))
    assert ages(a=delivery(b'{"timestamp": "%s"}' % stamp.encode())) == {"a": 5}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b"[" * 10_000, b'{"a": "%s"}' % (b"x" * MAX_READ)]
)
def test_unreadable(body: bytes) -> None:
    """What can't be read, or is too large to be read at each scrape, has no age, and spoils no other one's."""
    assert ages(a=delivery(body), b=delivery(message(1).to_json())) == {"b": 1}
