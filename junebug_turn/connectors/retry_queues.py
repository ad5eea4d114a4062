"""Retry queues: where a message waits in the broker, and for how long."""

from __future__ import annotations

from attrs import Factory, frozen

from junebug_turn.amqp.topology import RETURN, UNROUTABLE, Queue
from junebug_turn.connectors.history import History
from junebug_turn.connectors.queue_types import DROPS_NOTHING, OWN_ARGUMENTS

DELAYS = (30.0, 300.0, 1800.0, 7200.0)
"""Seconds in the delay queues, the first one for a message's first delay; from the last one on always that."""

SESSION_DELAY = 5.0
"""Seconds in the delay queue for messages of a session, each time."""

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


def parked_queue(queue: Queue, queue_type: str = "default") -> Queue:
    """Name the queue where messages of ``queue`` are parked."""
    arguments = OWN_ARGUMENTS[queue_type]
    return Queue(f"{queue.name}.parked", bound=False, arguments=arguments, can_wait=True)


def delay_queue(delay: float, queue_type: str = "default") -> Queue:
    """Define the queue in which messages of all connectors wait for ``delay`` seconds.

    A message gets into it through its exchange, with the name of the queue that it left as its routing key.  From there
    it goes back by this key, through an exchange of our own: nobody else who is bound to the key gets a second copy.
    """
    return _waiting_queue(f"{_PREFIX}.{_name(delay)}", delay, queue_type)


def deferred_queue(queue_type: str = "default") -> Queue:
    """Define the queue in which messages of all connectors wait until any destination that was down answers.

    It has the form of a delay queue, so that nothing waits for ever where no destination answers, or no daemon is there
    to see it.
    """
    return _waiting_queue(_DEFERRED, DEFERRED_LIMIT, queue_type)


def unroutable_queue(queue_type: str = "default") -> Queue:
    """Define the queue in which messages wait that found their own queue deleted as they came back.

    After that time they go to it, if it is there again.  If it isn't, the broker drops them.
    """
    return _waiting_queue(UNROUTABLE, DEFERRED_LIMIT, queue_type, exchange="", keeps=False)


def _waiting_queue(
    name: str, delay: float, queue_type: str, exchange: str = RETURN, *, keeps: bool = True
) -> Queue:
    """Define a queue whose messages go through an exchange after a time.

    :param keeps: whether each stays until the broker has a confirm from where it goes to.  Only a quorum queue can do
        that; else what finds its own queue full, or without a leader yet as the broker starts, is lost
    """
    times = {"x-message-ttl": round(delay * 1000), "x-dead-letter-exchange": exchange}
    # The broker wants both or none.  What a policy's max-length leaves no room for isn't lost: it returns at once.
    confirms = {**DROPS_NOTHING, "x-dead-letter-strategy": "at-least-once"} if keeps else {}
    return Queue(
        name,
        bound=False,
        arguments={**OWN_ARGUMENTS[queue_type], **times},
        quorum_arguments=confirms,
        fanout=True,
    )


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
