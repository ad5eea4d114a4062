"""The age of the messages that the daemon works on, for the metrics."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from junebug_turn.amqp.broker import Broker
from junebug_turn.connectors.content_encoding import decode
from junebug_turn.errors import UnreadableMessage
from junebug_turn.messages.strictjson import loads
from junebug_turn.messages.vumi import parse_timestamp, utcnow

MAX_READ = 64 * 1024
"""Bytes of the largest message that is read: a scrape must not take long."""


def message_ages(broker: Broker, now: Callable[[], datetime] = utcnow) -> dict[str, float]:
    """Return, for each queue with messages under way, the age of the one that came first, in seconds.

    The age is counted from the message's own timestamp, so it has the time in the queue too.  Only one message of a
    queue is read: one that can't be delivered is the first soon enough, as the others leave.
    """
    ages = {}
    for queue, delivery in broker.oldest().items():
        try:
            fields = loads(decode(delivery, MAX_READ))
        except (UnreadableMessage, ValueError):
            continue
        if isinstance(fields, dict):
            ages[queue] = max(0.0, (now() - parse_timestamp(fields.get("timestamp"))).total_seconds())
    return ages
