"""A connector: the queues of one vumi transport, as the application at their other side sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.channel import Delivery
from junebug_turn.amqp.consumer import Handler
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.ordering import Lanes
from junebug_turn.connectors.retry_queues import (
    SESSION_PAUSE,
    History,
    RetryWindows,
    delay_queues,
    original_headers,
    parked_queue,
)
from junebug_turn.errors import DeliveryExhausted, DeliveryFailed, Passing, UnreadableMessage
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.telemetry.context import debugging, note
from junebug_turn.telemetry.metrics import Metrics

HOLD_LIMIT = 10 * 60.0
"""Seconds after which a message that waited for those before it goes back, to come again at once: RabbitMQ closes
a consumer that holds one for 30 minutes, and its own delivery may take half of that."""

_Read = TypeVar("_Read", Message, Event)


@frozen
class _Task:
    """A message of ``queue``, held since ``since``; ``in_session`` ones are of no use after a delay."""

    delivery: Delivery
    queue: Queue
    since: float
    message_id: str = "?"
    in_session: bool = False


class Connector:
    """The queues ``{name}.inbound``, ``.event`` and ``.outbound``, and our own, where messages wait.

    Messages of one sender are handled one after the other, and so are events of one message.

    A message whose delivery is exhausted goes to a delay queue, ``{name}.inbound.retry.30s`` and its like, from
    which the broker puts it back into its queue.  One that is to be tried no more is parked in
    ``{name}.inbound.parked`` or ``{name}.event.parked``.  Either is a confirmed copy, before the original is
    acked.  It has the body and the headers of the original, and these:

    - ``reason``: that of ``DeliveryFailed``, or ``unreadable``, or ``session_expired``, or ``error`` for a fault
      of our own
    - ``last_status``: the last HTTP status, an integer; not there when nothing answered
    - ``attempts``: how many deliveries were tried, an integer
    - ``delays``: how often it was in a delay queue, an integer; not there when it never was
    - ``first_failure``, ``last_failure``: times, in ISO 8601, UTC, to the second
    """

    log = Logger()

    def __init__(
        self,
        broker: Broker,
        name: str,
        windows: RetryWindows | None = None,
        *,
        metrics: Metrics | None = None,
    ) -> None:
        self._broker = broker
        self._windows = windows or RetryWindows()
        self._metrics = metrics or Metrics()
        self._name = name
        self._inbound = Queue(f"{name}.inbound")
        self._event = Queue(f"{name}.event")
        self._outbound = Queue(f"{name}.outbound")
        self._delay_queues = {
            queue.name: delay_queues(queue, self._windows.delays) for queue in (self._inbound, self._event)
        }
        broker.declare(self._inbound, self._event, self._outbound)
        broker.declare(parked_queue(self._inbound), parked_queue(self._event))
        for queues in self._delay_queues.values():
            broker.declare(*queues.values())

    def publish_outbound(self, message: Message) -> Deferred[None]:
        """Give ``message`` to the transport; fires and fails as ``Broker.publish`` does."""
        fields = {"connector": self._name, "message_id": message.message_id}
        if debugging():
            self.log.debug(
                "Publishing outbound message {message_id} for {to_addr}", to_addr=message.to_addr, **fields
            )

        start = self._broker.reactor.seconds()

        def ended(confirmed: bool) -> None:
            self._metrics.published(self._name, self._broker.reactor.seconds() - start, confirmed=confirmed)

        def published(_: None) -> None:
            ended(True)
            self.log.info("Published outbound message {message_id}", log_every=True, **fields)

        def failed(failure: Failure) -> Failure:
            ended(False)
            reason = str(failure.value) or type(failure.value).__name__
            self.log.warn("Did not publish outbound message {message_id}: {reason}", reason=reason, **fields)
            return failure

        return self._broker.publish(self._outbound.name, message.to_json()).addCallbacks(published, failed)

    def consume(
        self,
        on_inbound: Callable[[Message], Awaitable[None]],
        on_event: Callable[[Event], Awaitable[None]],
    ) -> None:
        """Have each inbound message and each event handled.

        A handler that returns has its message acked.  One that raises ``DeliveryExhausted`` has it tried again
        later, and ``Passing`` has it put back into its queue, after a pause.  With any other exception it is
        parked, and what is not ``DeliveryFailed`` is logged as a fault of ours.
        """
        self._broker.consume(self._inbound, self._handler(self._inbound, Message.from_json, on_inbound))
        self._broker.consume(self._event, self._handler(self._event, Event.from_json, on_event))

    def _handler(
        self, queue: Queue, read: Callable[[bytes], _Read], handler: Callable[[_Read], Awaitable[None]]
    ) -> Handler:
        lanes = Lanes(self._broker.rest)

        async def handle(delivery: Delivery) -> None:
            now = self._broker.reactor.seconds()
            note(connector=self._name, kind=self._kind(queue))
            try:
                message = read(delivery.body)
            except UnreadableMessage as fault:
                task, failure = _Task(delivery, queue, now), self._failure("unreadable", str(fault), 0)
                await self._park(task, failure, self._after(failure, None, delivery))
                return
            message_id, key = self._received(message), _key(message)
            in_session = isinstance(message, Message) and message.transport_type == "ussd"
            task = _Task(delivery, queue, now, message_id, in_session)
            await lanes.run(key, lambda: self._work(task, lambda: handler(message)))

        return handle

    async def _work(self, task: _Task, attempt: Callable[[], Awaitable[None]]) -> None:
        """Do what there is to do for a message, so that it can go from its queue."""
        history = None
        if self._broker.reactor.seconds() - task.since > HOLD_LIMIT:
            # Now, not when the lane is free: those behind it go back as well, and must stay behind it.
            task.delivery.requeue()
            return
        # A message whose channel is gone comes again: what is done for this one would be done twice.
        while not task.delivery.lost:
            failure = await self._try(task, attempt)
            if failure is None or task.delivery.lost:
                return
            history = self._after(failure, history, task.delivery)
            if not isinstance(failure, DeliveryExhausted):
                await self._park(task, failure, history)
                return
            if not task.in_session:
                await self._delay(task, failure, history)
                return
            left = history.first_failure + self._windows.session - self._broker.reactor.seconds()
            if left <= 0:
                await self._park(task, failure, attrs.evolve(history, reason="session_expired"))
                return
            await self._broker.rest(deferLater(self._broker.reactor, min(left, SESSION_PAUSE)))

    async def _try(self, task: _Task, attempt: Callable[[], Awaitable[None]]) -> DeliveryFailed | None:
        """How ``attempt`` failed; None: it did not."""
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
                queue=task.queue.name,
            )
            return self._failure("error", type(fault).__name__, 1)
        return None

    def _received(self, message: Message | Event) -> str:
        """Have what is logged from now on tell of ``message``; returns the id of that, or of the event's message."""
        if isinstance(message, Message):
            note(message_id=message.message_id)
            if debugging():
                self.log.debug("Received inbound message {message_id}", from_addr=message.from_addr)
            return message.message_id
        note(message_id=message.user_message_id, event_id=message.event_id)
        if debugging():
            self.log.debug(
                "Received {event_type} of message {message_id}", event_type=str(message.event_type)
            )
        return message.user_message_id

    def _failure(self, reason: str, text: str, attempts: int) -> DeliveryFailed:
        now = self._broker.reactor.seconds()
        return DeliveryFailed(
            text, reason=reason, last_status=None, attempts=attempts, first_failure=now, last_failure=now
        )

    def _after(self, failure: DeliveryFailed, history: History | None, delivery: Delivery) -> History:
        return (history or History.read(delivery.headers, failure.first_failure)).after(failure)

    async def _delay(self, task: _Task, failure: DeliveryFailed, history: History) -> None:
        """Have the message come back later, or park it when no time is left."""
        delay = self._windows.delay(history, self._broker.reactor.seconds())
        if delay is None:
            await self._park(task, failure, history)
            return
        queue = self._delay_queues[task.queue.name][delay].name
        await self._copy(queue, task.delivery, history.delayed())
        self._metrics.delayed(self._name, self._kind(task.queue), history.reason)
        self._tell(LogLevel.info, "Delayed", task, queue, failure, history)

    async def _park(self, task: _Task, failure: DeliveryFailed, history: History) -> None:
        queue = parked_queue(task.queue).name
        self._metrics.parked(self._name, self._kind(task.queue), history.reason)
        await self._copy(queue, task.delivery, history, self._windows.expiration)
        self._tell(LogLevel.warn, "Parked", task, queue, failure, history)

    def _kind(self, queue: Queue) -> str:
        return queue.name.removeprefix(f"{self._name}.")

    async def _copy(
        self, queue: str, delivery: Delivery, history: History, expiration: int | None = None
    ) -> None:
        """Publish a copy; what this raises keeps the original from being acked."""
        ours = history.headers()
        theirs = original_headers(delivery.headers, with_deaths=not history.delays)
        try:
            await self._broker.publish(
                queue, delivery.body, exchange="", headers=theirs | ours, expiration=expiration
            )
        except ValueError:
            # The original's headers can't be written again (with ours they may be larger than a frame).
            await self._broker.publish(queue, delivery.body, exchange="", headers=ours, expiration=expiration)

    def _tell(
        self, level: Any, what: str, task: _Task, queue: str, failure: DeliveryFailed, history: History
    ) -> None:
        self.log.emit(
            level,
            "{what} {message_id} in {queue}: {reason}, last status {status}, {attempts} attempts: {failure!s}; "
            "see docs/retries.md for what becomes of it",
            what=what,
            message_id=task.message_id,
            queue=queue,
            reason=history.reason,
            status=history.last_status,
            attempts=history.attempts,
            failure=failure,
        )


def _key(message: Message | Event) -> str | None:
    """What those have in common that must not overtake each other."""
    return message.from_addr if isinstance(message, Message) else message.user_message_id
