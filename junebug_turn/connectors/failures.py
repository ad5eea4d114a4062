"""What becomes of a message after a failed attempt: it is delayed or parked."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.deferrals import Deferrals
from junebug_turn.connectors.history import History, original_headers, routable_headers
from junebug_turn.connectors.retry_queues import (
    RetryWindows,
    deferred_queue,
    delay_queue,
    parked_queue,
    unroutable_queue,
)
from junebug_turn.connectors.task import Task
from junebug_turn.errors import DeliveryDeferred, DeliveryExhausted, DeliveryFailed, Passing
from junebug_turn.net.clocks import WALL_CLOCK, WallClock
from junebug_turn.state.journal import DEFERRED, DELAYED, PARKED, Journal
from junebug_turn.telemetry.metrics import Metrics
from junebug_turn.telemetry.tracing import current_headers

HOLD_LIMIT = 10 * 60.0
"""Seconds after which a message that waited for those before it goes back, to come again at once: RabbitMQ closes
a consumer that holds one for 30 minutes, and its own delivery may take half of that."""

REPLACE_PAUSE = 5.0
"""Seconds until it is tried again to replace a message by a copy."""


class Failures:
    """The attempts at the messages of one queue, and what follows a failed one.

    A message whose delivery is exhausted goes to a delay queue, ``junebug-turn.delay.30s`` and its like, from which the
    broker puts it back into its queue.  One of a USSD session goes to ``junebug-turn.delay.5s`` each time: held here it
    would take the place of others, and keep those of its sender.  One that is to be tried no more is parked in
    ``{connector}.inbound.parked`` or ``{connector}.event.parked``.  Either is a confirmed copy, before the original is
    acked.  It has the body, the properties and the headers of the original, and these headers:

    - ``reason``: that of ``DeliveryFailed``, or ``unreadable``, or ``session_expired``, or ``error`` for a fault
      of our own
    - ``last_status``: the last HTTP status, an integer; not there when nothing answered
    - ``last_error``: the destination's own words with it, cut and masked; not there without any
    - ``attempts``: how many deliveries were tried, an integer
    - ``delays``: how often it was in a delay queue, an integer; not there when it never was
    - ``first_failure``, ``last_failure``: times, in ISO 8601, UTC, to the second
    - ``amqp_queue``: the name of the ``amqp_queue`` to which it was forwarded; not there when it was to none

    :param kind: ``inbound`` or ``event``
    :param wall_clock: dates failures, since these times survive the process
    :param journal: of the connector's messages
    :ivar queue: ``{connector}.{kind}``
    """

    log = Logger()

    def __init__(
        self,
        broker: Broker,
        connector: str,
        kind: str,
        windows: RetryWindows,
        metrics: Metrics,
        wall_clock: WallClock = WALL_CLOCK,
        journal: Journal | None = None,
    ) -> None:
        self._broker = broker
        self._journal = journal
        self._wall_clock = wall_clock
        self._connector = connector
        self._kind = kind
        self.queue = Queue(f"{connector}.{kind}", returns=True)
        self._parked = parked_queue(self.queue, windows.queue_type)
        delays = {windows.session_delay, *windows.delays, windows.deferral[0], windows.soon[0]}
        self._delay_queues = {delay: delay_queue(delay, windows.queue_type) for delay in sorted(delays)}
        self._deferred = deferred_queue(windows.queue_type)
        self._deferrals = Deferrals(windows.deferral, windows.soon, broker.reactor.seconds)
        self._windows = windows
        self._metrics = metrics
        others = self._deferred, unroutable_queue(windows.queue_type)
        broker.declare(self.queue, self._parked, *self._delay_queues.values(), *others)

    async def replace(self, task: Task) -> None:
        """Replace a message that was delivered too often by a copy, at the end of its queue.

        It is not put back when that fails, since each time counts: it is tried again here.

        :raises DeliveryLost: its channel is gone, so that the broker delivers it again
        """
        delivery = task.delivery
        headers = routable_headers(delivery.headers)
        while True:
            try:
                await self._publish(self.queue, delivery, headers, {})
            except Passing as fault:
                self.log.warn(
                    "{message_id} of {queue} was delivered often and can't be replaced by a copy: {fault!s}; "
                    "tried again in {pause:.0f} s",
                    message_id=task.message_id,
                    queue=self.queue.name,
                    fault=fault,
                    pause=REPLACE_PAUSE,
                )
            else:
                return
            await self._broker.rest(deferLater(self._broker.reactor, REPLACE_PAUSE))
            delivery.check()

    async def run(self, task: Task, attempt: Callable[[], Awaitable[None]]) -> None:
        """Attempt a message until it can go from its queue.

        :raises Passing: (or what publishing a copy raises) it has to go back into its queue
        :raises DeliveryLost: its channel is gone, and it is not done with
        """
        if self._broker.reactor.seconds() - task.since > HOLD_LIMIT:
            # Now, not when its turn comes: those behind it go back as well, and must stay behind it.
            task.delivery.requeue()
            return
        # A message whose channel is gone comes again: what is done for this one would be done twice.
        task.delivery.check()
        failure = self._behind_another(task) or await self._try(task, attempt)
        if not isinstance(failure, DeliveryDeferred):
            self._deferrals.done(task.key, hash(task.delivery.body))
        if failure is None:
            return
        task.delivery.check()
        history = task.history(failure).after(failure)
        if not isinstance(failure, DeliveryExhausted):
            await self._park(task, failure, history)
        elif task.in_session:
            await self._delay_session(task, failure, history)
        elif isinstance(failure, DeliveryDeferred):
            await self._defer(task, failure, history, task.key)
        elif self._windows.is_early(history, self._now(history)):
            # No others wait behind it: the cause may be in the message itself.
            await self._defer(task, failure, history, None)
        else:
            await self._delay(task, failure, history)

    async def park_unreadable(self, task: Task, fault: Exception) -> None:
        """Park a message that can't be read."""
        failure = self._failure("unreadable", str(fault), 0)
        await self._park(task, failure, task.history(failure).after(failure))

    def _behind_another(self, task: Task) -> DeliveryFailed | None:
        """Put a message off that would overtake one of the same sender (or message) which is put off."""
        if task.in_session or not self._deferrals.is_behind(task.key, hash(task.delivery.body)):
            return None
        failure = self._failure(
            "circuit_open", "one before it waits for its destination", 0, DeliveryDeferred
        )
        failure.destination, failure.soon = self._deferrals.ahead(task.key)
        return failure

    async def _try(self, task: Task, attempt: Callable[[], Awaitable[None]]) -> DeliveryFailed | None:
        """Attempt a message once; returns the failure, or None."""
        try:
            await attempt()
        except DeliveryFailed as failure:
            return failure
        except Passing:
            # What the handler needs is away, for this message as for all others: it waits with them.
            raise
        except Exception as fault:
            if isinstance(fault, CancelledError) and self._broker.stopping:
                raise
            self.log.failure(
                "Fault in handling {message_id} of {queue}",
                message_id=task.message_id,
                queue=self.queue.name,
            )
            return self._failure("error", type(fault).__name__, 1)
        return None

    def _failure(
        self, reason: str, text: str, attempts: int, kind: type[DeliveryFailed] = DeliveryFailed
    ) -> DeliveryFailed:
        now = self._wall_clock.now()
        return kind(
            text, reason=reason, last_status=None, attempts=attempts, first_failure=now, last_failure=now
        )

    async def _delay(self, task: Task, failure: DeliveryFailed, history: History) -> None:
        """Have the message come back later, or park it when no time is left."""
        delay = self._windows.delay(history, self._now(history))
        if delay is None:
            await self._park(task, failure, history)
            return
        await self._put_off(task, failure, history, self._delay_queues[delay])

    async def _defer(self, task: Task, failure: DeliveryFailed, history: History, key: str | None) -> None:
        """Have the message come back soon, no older in its schedule, or park it when no time is left."""
        if self._windows.delay(history, self._now(history)) is None:
            await self._park(task, failure, history)
            return
        delay = self._deferrals.next(key, hash(task.delivery.body), failure.destination, failure.soon)
        queue = self._deferred if delay is None else self._delay_queues[delay]
        await self._copy(queue, task.delivery, history)
        self._metrics.delayed(self._connector, self._kind, history.reason)
        self._log(DEFERRED, task, queue, failure, history)

    async def _delay_session(self, task: Task, failure: DeliveryFailed, history: History) -> None:
        """Have a message of a session come back soon, at the end of its window at the latest, or park it then."""
        left = history.first_failure + self._windows.session - self._now(history)
        if left <= 0:
            await self._park(task, failure, attrs.evolve(history, reason="session_expired"))
            return
        # A message's own expiration is kept to where it is shorter than the queue's.
        expiration = math.ceil(left * 1000) if left < self._windows.session_delay else None
        await self._put_off(
            task, failure, history, self._delay_queues[self._windows.session_delay], expiration
        )

    async def _put_off(
        self,
        task: Task,
        failure: DeliveryFailed,
        history: History,
        queue: Queue,
        expiration: int | None = None,
    ) -> None:
        await self._copy(queue, task.delivery, history.delayed(), expiration)
        self._metrics.delayed(self._connector, self._kind, history.reason)
        self._log(DELAYED, task, queue, failure, history)

    def _now(self, history: History) -> float:
        """Return the time of the clock that told the first failure, as if it had not been set since."""
        return history.first_failure + self._wall_clock.elapsed(history.first_failure)

    async def _park(self, task: Task, failure: DeliveryFailed, history: History) -> None:
        self._metrics.parked(self._connector, self._kind, history.reason)
        await self._broker.have(self._parked)
        await self._copy(self._parked, task.delivery, history, self._windows.expiration)
        self._log(PARKED, task, self._parked, failure, history)

    async def _copy(
        self, queue: Queue, delivery: Delivery, history: History, expiration: int | None = None
    ) -> None:
        """Publish a copy with a history; an exception keeps the original from being acked."""
        ours = history.headers()
        theirs = original_headers(delivery.headers, with_deaths=queue == self._parked and not history.delays)
        await self._publish(queue, delivery, theirs | (current_headers() or {}), ours, expiration)

    async def _publish(
        self,
        queue: Queue,
        delivery: Delivery,
        theirs: Mapping[Any, Any],
        ours: Mapping[Any, Any],
        expiration: int | None = None,
    ) -> None:
        publish = partial(
            self._broker.publish,
            self.queue.name if queue.fanout else queue.name,
            delivery.body,
            exchange=queue.name if queue.fanout else "",
            expiration=expiration,
            original=delivery.header,
        )
        try:
            await publish(headers={**theirs, **ours}).confirmed
        except ValueError:
            # The original's headers can't be written again (with ours they may be larger than a frame).
            await publish(headers=ours).confirmed

    def _log(self, step: str, task: Task, queue: Queue, failure: DeliveryFailed, history: History) -> None:
        if self._journal is not None:
            details = {"queue": queue.name, "reason": history.reason, "status": history.last_status}
            details |= {"attempts": history.attempts, **task.of_event}
            if (ttl := queue.arguments.get("x-message-ttl")) is not None:
                details["next_try"] = round(self._wall_clock.now() + ttl / 1000, 3)
            self._journal.note(task.message_id, step, details)
        is_news = step is not DEFERRED or failure.attempts or not task.came_back
        self.log.emit(
            LogLevel.warn if is_news else LogLevel.debug,
            "{what} {message_id} in {queue}: {reason}{last}, {attempts} attempt{s}: {failure!s}",
            what=step.capitalize(),
            message_id=task.message_id,
            queue=queue.name,
            reason=history.reason,
            status=history.last_status,
            last="" if history.last_status is None else f", last status {history.last_status}",
            attempts=history.attempts,
            s="" if history.attempts == 1 else "s",
            failure=failure,
            # It is the last line of this message for a while, or for ever: a count has no ids.
            log_every=True,
        )
