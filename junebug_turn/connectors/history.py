"""The history of a message's failed attempts, in the headers of its copies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
from attrs import frozen

from junebug_turn.errors import DeliveryFailed

FORWARDED = "amqp_queue"
"""The header with the name of the ``amqp_queue`` to which a message was forwarded already."""

HISTORY_HEADERS = (
    "reason",
    "attempts",
    "delays",
    "last_status",
    "last_error",
    "destination",
    "first_failure",
    "last_failure",
    FORWARDED,
)

_DEATH_HEADERS = ("x-death", "x-first-death-", "x-last-death-")
# RabbitMQ sends a copy to each queue that these headers name.
_ROUTING_HEADERS = ("CC", "BCC")
# A quorum queue's count of the deliveries of the original.
_COUNT_HEADERS = ("x-delivery-count", "x-acquired-count")
_MOST = 2**31 - 1
_LAST = 253402300799.0  # the last second of the year 9999

MAX_REASON = 100
"""Characters of a reason that are written: with all other properties it has to fit into the smallest frame."""

MAX_ERROR = 300
"""Bytes of a destination's own words that are written."""


@frozen
class History:
    """The failed attempts at a message so far; times are in Unix seconds.

    :ivar forwarded: the ``amqp_queue`` that has it already; empty: none
    :ivar last_error: the destination's own words about the last failure; empty: none
    :ivar destination: the origin that it was for; empty: none
    """

    first_failure: float
    last_failure: float
    reason: str = "error"
    attempts: int = 0
    delays: int = 0
    last_status: int | None = None
    forwarded: str = ""
    last_error: str = ""
    destination: str = ""

    @classmethod
    def read(cls, headers: Mapping[Any, Any], now: float) -> History:
        """Read the history from headers, as far as they can be true: any publisher can write them."""
        first, last = _seconds(headers.get("first_failure")), _seconds(headers.get("last_failure"))
        reason, error = headers.get("reason"), headers.get("last_error")
        destination = headers.get("destination")
        return cls(
            first_failure=now if first is None else min(first, now),
            last_failure=now if last is None else min(last, now),
            reason=reason if isinstance(reason, str) else "error",
            attempts=_count(headers.get("attempts")) or 0,
            delays=_count(headers.get("delays")) or 0,
            last_status=_count(headers.get("last_status")),
            forwarded=forwarded_to(headers),
            last_error=error if isinstance(error, str) else "",
            destination=destination if isinstance(destination, str) else "",
        )

    def after(self, failure: DeliveryFailed) -> History:
        """Add a failure.

        Whatever it holds, the history can be written: a copy must not fail for what is added to it.
        """
        return attrs.evolve(
            self,
            first_failure=min(self.first_failure, failure.first_failure),
            last_failure=failure.last_failure,
            reason=failure.reason,
            attempts=max(0, min(self.attempts + failure.attempts, _MOST)),
            last_status=_count(failure.last_status),
            last_error=failure.last_error,
            destination=failure.destination,
        )

    def delayed(self) -> History:
        """Add a delay."""
        return attrs.evolve(self, delays=min(self.delays + 1, _MOST))

    def headers(self) -> dict[str, Any]:
        """Write the headers that ``read`` reads."""
        ours: dict[str, Any] = {"reason": _writable(self.reason[:MAX_REASON]), "attempts": self.attempts}
        if self.delays:
            ours["delays"] = self.delays
        if self.last_status is not None:
            ours["last_status"] = self.last_status
        if self.last_error:
            ours["last_error"] = _writable(self.last_error, MAX_ERROR)
        if self.destination:
            ours["destination"] = _writable(self.destination, MAX_ERROR)
        if self.forwarded:
            ours[FORWARDED] = self.forwarded
        ours["first_failure"] = iso_time(self.first_failure)
        ours["last_failure"] = iso_time(self.last_failure)
        return ours


def forwarded_to(headers: Mapping[Any, Any]) -> str:
    """Read which ``amqp_queue`` has a message already; empty: none."""
    queue = headers.get(FORWARDED)
    return queue if isinstance(queue, str) else ""


def routable_headers(headers: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return ``headers`` without those by which RabbitMQ would send a copy elsewhere, or has counted the original."""
    return {name: value for name, value in headers.items() if name not in _ROUTING_HEADERS + _COUNT_HEADERS}


def original_headers(headers: Mapping[Any, Any], *, with_deaths: bool) -> dict[Any, Any]:
    """Return ``routable_headers`` without the history.

    :param with_deaths: whether to keep RabbitMQ's own history of dead letters, which grows with each delay
    """
    return {
        name: value
        for name, value in routable_headers(headers).items()
        if name not in HISTORY_HEADERS and (with_deaths or not str(name).startswith(_DEATH_HEADERS))
    }


def _writable(text: str, size: int | None = None) -> str:
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def iso_time(seconds: float) -> str:
    """Write a time in ISO 8601, UTC, to the second."""
    # In this order no number, infinite or none at all, is out of range.
    return datetime.fromtimestamp(int(min(max(0.0, seconds), _LAST)), UTC).isoformat()


def _seconds(value: object) -> float | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return None if moment is None else max(0.0, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())
    except (ValueError, OverflowError):
        return None


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST:
        return value
    return None
