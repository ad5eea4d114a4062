"""A delivery and its channel."""

from __future__ import annotations

import pytest
from pika import frame, spec

from junebug_turn.amqp.delivery import Delivery, DeliveryLost
from tests.support.fake_broker import Channel


def delivery(channel: Channel, tag: int = 1, **properties: object) -> Delivery:
    header = frame.Header(1, 4, spec.BasicProperties(**properties)).marshal()[7:-1]
    return Delivery(channel, tag, b"body", header)


def test_the_first_settlement_counts() -> None:
    """A message is acked or requeued once, whichever comes first."""
    channel = Channel()
    first, second = delivery(channel, 1), delivery(channel, 2)
    first.ack()
    first.requeue()
    second.requeue()
    second.ack()
    assert channel.settled == {1: "acked", 2: "requeued"}


def test_a_lost_one_goes_on_as_the_one_that_came_again() -> None:
    """When its channel is gone work for it ends, unless the message came again meanwhile."""
    gone, channel = Channel(), Channel()
    lost = delivery(gone)
    lost.check()
    gone.closed = True
    with pytest.raises(DeliveryLost):
        lost.check()
    lost.renew(delivery(channel, 5))
    lost.check()
    lost.ack()
    assert (gone.settled, channel.settled) == ({}, {5: "acked"})


def test_properties() -> None:
    """It has the properties of the message; of a malformed header neither headers nor an encoding."""
    found = delivery(Channel(), content_encoding="gzip", headers={"x": 1})
    assert (found.headers, found.content_encoding) == ({"x": 1}, "gzip")
    assert found.properties == {"content-encoding": "gzip", "headers": {"x": 1}}
    malformed = Delivery(Channel(), 1, b"", bytes(12) + b"\x60\x00\x09")
    assert (malformed.headers, malformed.content_encoding) == ({}, "")
