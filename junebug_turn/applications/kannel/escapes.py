"""Kannel's escapes in URLs, as ``%d``, and their values (its user guide, "Parameters")."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote_plus

from junebug_turn.messages import vumi
from junebug_turn.messages.vumi import Event, Message

_ESCAPE = re.compile(r"%([A-Za-z%])")

# The values of %d, which are the bits of dlr-mask, too.
_STATUSES = {vumi.ACK: 8, vumi.NACK: 16, vumi.DELIVERED: 1, vumi.FAILED: 2, vumi.PENDING: 4}

# The names of these values in ``forward_events``.
EVENT_WORDS = {1: "delivered", 2: "failed", 4: "buffered", 8: "accepted", 16: "rejected"}


def fill(url: str, values: Mapping[str, str]) -> str:
    """Return a URL with its escapes replaced; ``%%`` is a percent sign, and an escape without a value stays."""

    def value(match: re.Match[str]) -> str:
        letter = match[1]
        if letter == "%":
            return "%"
        return quote_plus(values[letter], errors="replace") if letter in values else match[0]

    return _ESCAPE.sub(value, url)


def dlr_status(event: Event) -> int:
    """Return the value of ``%d``: 1 delivered, 2 failed, 4 buffered, 8 accepted by the SMSC, 16 rejected by it."""
    is_report = event.event_type == vumi.DELIVERY_REPORT
    return _STATUSES[event.delivery_status or "" if is_report else event.event_type]


def event_escapes(event: Event, from_addr: str, to_addr: str) -> dict[str, str]:
    """Return the values of a delivery report; the addresses are those of the message that it is about."""
    return {
        "d": str(dlr_status(event)),
        "F": event.sent_message_id or "",
        "A": event.nack_reason or "",
        **_common(event.user_message_id, event.timestamp, from_addr, to_addr),
    }


def message_escapes(message: Message) -> dict[str, str]:
    """Return the values of an inbound message."""
    content = message.content or ""
    return {
        "a": " ".join(content.split()),
        "A": content,
        "b": content,
        **_common(message.message_id, message.timestamp, message.from_addr or "", message.to_addr or ""),
    }


def unix_seconds(timestamp: datetime) -> str:
    """Return a time as Kannel's ``%T`` and ``ts``."""
    return str(timegm(timestamp.utctimetuple()))


def _common(message_id: str, timestamp: datetime, sender: str, receiver: str) -> dict[str, str]:
    return {
        "p": sender,
        "P": receiver,
        "q": _international(sender),
        "Q": _international(receiver),
        "t": timestamp.isoformat(" ", "seconds"),
        "T": unix_seconds(timestamp),
        "I": message_id,
    }


def _international(number: str) -> str:
    return f"+{number[2:]}" if number.startswith("00") else number
