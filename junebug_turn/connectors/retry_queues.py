"""Retry queues: where a message waits in the broker, for how long, and its history in headers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
from attrs import Factory, frozen

from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.queue_types import OWN_ARGUMENTS
from junebug_turn.errors import DeliveryFailed

DELAYS = (30.0, 300.0, 1800.0, 7200.0)
"""Seconds in the delay queues, the first one for a message's first delay; from the last one on always that."""

SESSION_DELAY = 5.0
"""Seconds in the delay queue for messages of a session, each time."""

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

DEFERRAL = (5.0, 2000)
"""The delay, in seconds, of messages that wait only because their destination is down or has no place for them, and how
many of a queue have it at once for one destination.  What waits is looked at again each time, so the others wait in
``deferred_queue``: an outage of a day costs little."""

SOON = (1.0, 250)
"""The same for destinations that answer, and take what is for them, but had no place free.  There are as many for each
destination at most as it can take in ``DEFERRAL``'s delay, and so many of a queue in all."""

DEFERRED_LIMIT = 300.0
"""Seconds that a message is deferred at most."""

_DEFERRED = "junebug-turn.deferred"
_PREFIX = "junebug-turn.delay"

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


@frozen(kw_only=True)
class RetryWindows:
    """The retry windows of a connector, in seconds.

    :ivar retry: since the first failure, with delays in the broker; 0: none of these
    :ivar session: the same for inbound messages of USSD
    :ivar parked_ttl: how long a parked message is kept; 0: for ever
    :ivar delays: those of the delay queues, from short to long
    :ivar session_delay: that of the delay queue for inbound messages of USSD
    :ivar deferral: see ``DEFERRAL``
    :ivar soon: see ``SOON``
    :ivar queue_type: the type of our own queues: see ``queue_types``
    """

    retry: float = 86400.0
    session: float = 180.0
    parked_ttl: float = 1209600.0
    delays: tuple[float, ...] = Factory(lambda: DELAYS)
    session_delay: float = SESSION_DELAY
    deferral: tuple[float, int] = Factory(lambda: DEFERRAL)
    soon: tuple[float, int] = Factory(lambda: SOON)
    queue_type: str = "default"

    def delay(self, history: History, now: float) -> float | None:
        """Choose the next delay: a longer one each time, or the longest that ends within the window; None: park."""
        wanted = self.delays[min(history.delays, len(self.delays) - 1)]
        left = history.first_failure + self.retry - now
        return max((delay for delay in self.delays if delay <= min(wanted, left)), default=None)

    def is_early(self, history: History, now: float) -> bool:
        """Tell whether a message first failed so lately that its destination may be away for a moment."""
        first, short = self.delays[0], self.deferral[0]
        return not history.delays and short < first and now - history.first_failure < first

    @property
    def expiration(self) -> int | None:
        """``parked_ttl`` as a message's property, in milliseconds; None: it has none."""
        return round(self.parked_ttl * 1000) or None


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


def parked_queue(queue: Queue, queue_type: str = "default") -> Queue:
    """Name the queue where messages of ``queue`` are parked."""
    arguments = OWN_ARGUMENTS[queue_type]
    return Queue(f"{queue.name}.parked", bound=False, arguments=arguments, can_wait=True)


def delay_queue(delay: float, queue_type: str = "default") -> Queue:
    """Define the queue in which messages of all connectors wait for ``delay`` seconds.

    A message gets into it through its exchange, with the name of the queue that it left as its routing key.  From there
    it goes back by this key, through the default exchange: nobody else who is bound to the key gets a second copy.
    """
    return _waiting_queue(f"{_PREFIX}.{_name(delay)}", delay, queue_type)


def deferred_queue(queue_type: str = "default") -> Queue:
    """Define the queue in which messages of all connectors wait until any destination that was down answers.

    It has the form of a delay queue, so that nothing waits for ever where no destination answers, or no daemon is there
    to see it.
    """
    return _waiting_queue(_DEFERRED, DEFERRED_LIMIT, queue_type)


def _waiting_queue(name: str, delay: float, queue_type: str) -> Queue:
    arguments = dict(OWN_ARGUMENTS[queue_type])
    if queue_type == "quorum":
        # Otherwise the broker moves a message without waiting for its confirm.
        arguments["x-dead-letter-strategy"] = "at-least-once"
    arguments |= {"x-message-ttl": round(delay * 1000), "x-dead-letter-exchange": ""}
    return Queue(name, bound=False, arguments=arguments, fanout=True)


def delay_of(queue: str) -> str | None:
    """Return the longest delay in a queue of ``delay_queue``, as ``30s``, or of ``deferred_queue``; None for others."""
    if queue == _DEFERRED:
        return f"{_name(DEFERRED_LIMIT)}, or when a destination answers again"
    prefix, _, delay = queue.rpartition(".")
    return delay if prefix == _PREFIX else None


def former_delay_queues(connector: str) -> list[str]:
    """Name the delay queues that a connector had of its own in former versions."""
    queues = [f"{connector}.{kind}.retry.{_name(delay)}" for kind in ("inbound", "event") for delay in DELAYS]
    return [*queues, f"{connector}.inbound.retry.{_name(SESSION_DELAY)}"]


def _name(delay: float) -> str:
    """Write the delay for a queue's name: its arguments can't be changed, so another delay is another queue."""
    for size, unit in ((3600, "h"), (60, "m"), (1, "s")):
        if delay >= size and delay % size == 0:
            return f"{delay / size:.0f}{unit}"
    return f"{delay * 1000:.0f}ms"


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
