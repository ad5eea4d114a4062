"""A connector: the queues of one vumi transport, as the application at their other side sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.consumer import REQUEUE_PAUSE
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.publication import Publication
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.bridge import Bridge
from junebug_turn.connectors.content_encoding import decode
from junebug_turn.connectors.failures import Failures
from junebug_turn.connectors.history import MAX_REASON, forwarded_to
from junebug_turn.connectors.ordering import Ordering
from junebug_turn.connectors.received import begin_trace
from junebug_turn.connectors.retry_queues import RetryWindows, former_delay_queues
from junebug_turn.connectors.statuses import consume_statuses
from junebug_turn.connectors.task import Task
from junebug_turn.errors import Passing, UnreadableMessage
from junebug_turn.messages.vumi import Event, Message, TransportStatus
from junebug_turn.middlewares.chain import Chain
from junebug_turn.state.journal import ACCEPTED, MAX_ID, NOT_PUBLISHED, PUBLISHED, RECEIVED, Journal
from junebug_turn.telemetry.context import debugging, note
from junebug_turn.telemetry.metrics import Metrics
from junebug_turn.telemetry.tracing import PRODUCER, current, current_headers, start

_Item = TypeVar("_Item", Message, Event)


@define(eq=False)
class _InMiddlewares:
    """A message that its middlewares may still have, where it can't be withdrawn."""

    confirmed: Deferred[None] = field(init=False)
    publication: Publication | None = None

    @property
    def handed_over(self) -> bool:
        return self.publication is not None and self.publication.handed_over

    def withdraw(self) -> bool:
        return self.publication is not None and self.publication.withdraw()


Publishing: TypeAlias = Publication | _InMiddlewares
"""An outbound message on its way to the broker: see ``Publication``."""


class Connector:
    """The queues ``{name}.inbound``, ``.event`` and ``.outbound``, and those where messages wait for another attempt.

    Messages of one sender are handled one after the other, and so are events of one message.  ``Failures`` says what
    becomes of those that can't be delivered.

    :param windows: how long messages are tried and kept
    :param chain: the middlewares.  What one raises is for the caller: ``publish`` fails with it, and an inbound
        message or an event is parked by it.
    :param journal: gets the steps of each message
    """

    log = Logger()

    def __init__(
        self,
        broker: Broker,
        name: str,
        windows: RetryWindows | None = None,
        *,
        chain: Chain | None = None,
        metrics: Metrics | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._broker = broker
        self._journal = journal
        self._windows = windows or RetryWindows()
        self._chain = chain or Chain((), name)
        self._metrics = metrics or Metrics()
        self._metrics.begin(name)
        self._name = name
        self._bridge: Bridge | None = None
        self._prepare: Callable[[Message], Awaitable[bool]]
        self._outbound = Queue(f"{name}.outbound")
        broker.declare(self._outbound)
        broker.retire(*former_delay_queues(name))

    def publish(self, message: Message) -> Publishing:
        """Give ``message`` to the transport, as the middlewares make it."""
        if not self._chain.changes_outbound:
            return self._publish(message)
        publishing = _InMiddlewares()
        publishing.confirmed = Deferred.fromCoroutine(self._pass_through(publishing, message))
        return publishing

    async def _pass_through(self, publishing: _InMiddlewares, message: Message) -> None:
        """Publish ``message`` as the middlewares make it; it isn't kept while its publication waits."""
        passing = self._chain.outbound(message)
        del message
        publishing.publication = self._publish(await passing)
        del passing
        await publishing.publication.confirmed

    def _publish(self, message: Message) -> Publication:
        fields = {"connector": self._name, "message_id": message.message_id}
        trace = current()
        span = start(PRODUCER, trace, "publish", self._outbound.name, message_id=message.message_id)
        headers = None
        if trace is not None:
            headers = (trace if span is None else span.context).headers()
            # The broker's confirm comes in no context.
            fields["trace_id"] = trace.trace_id
        if debugging():
            self.log.debug(
                "Publishing outbound message {message_id} for {to_addr}", to_addr=message.to_addr, **fields
            )

        began = self._broker.reactor.seconds()
        # The message itself isn't kept while it waits.
        journal, message_id = self._journal, message.message_id
        if journal is not None:
            journal.note(message_id, ACCEPTED)

        def ended(confirmed: bool) -> None:
            if span is not None:
                span.end("" if confirmed else "not_published")
            self._metrics.published(self._name, self._broker.reactor.seconds() - began, confirmed=confirmed)

        def published(_: None) -> None:
            ended(True)
            if journal is not None:
                journal.note(message_id, PUBLISHED)
            self.log.info("Published outbound message {message_id}", log_every=True, **fields)

        def failed(fault: BaseException | None) -> None:
            ended(False)
            if isinstance(fault, CancelledError):
                reason = "its request ended while it waited for the broker"
            else:
                reason = str(fault) or type(fault).__name__
            if journal is not None:
                journal.note(message_id, NOT_PUBLISHED, {"reason": reason[:MAX_REASON]})
            self.log.warn("Did not publish outbound message {message_id}: {reason}", reason=reason, **fields)

        def late(fault: Exception | None) -> None:
            published(None) if fault is None else failed(fault)

        def not_confirmed(failure: Failure) -> Failure:
            if publication.handed_over and failure.check(CancelledError):
                # Its request has ended, which says nothing about the message: the broker still has to.
                publication.late = late
            else:
                failed(failure.value)
            return failure

        publication = self._broker.publish(self._outbound.name, message.to_json(), headers=headers)
        publication.confirmed.addCallbacks(published, not_confirmed)
        return publication

    def publish_event(self, event: Event) -> Publication:
        """Put an event of an outbound message that was not published into the queue of the transport's events."""
        return self._broker.publish(f"{self._name}.event", event.to_json(), headers=current_headers())

    def bridge(self, queue: str, prepare: Callable[[Message], Awaitable[bool]]) -> None:
        """Forward to an application over AMQP, too, and forward its outbound messages: see ``Bridge``.

        An inbound message or an event is forwarded once, before its handler is called, however often that is.

        :param queue: the name of the application's queues
        :param prepare: is called with an inbound message before that; returns whether it is forwarded
        """
        self._bridge, self._prepare = Bridge(self._broker, self._name, queue), prepare

    def consume_statuses(self, on_status: Callable[[TransportStatus], Awaitable[None]]) -> None:
        """Have each status of the transport handled: see ``statuses.consume_statuses``."""
        consume_statuses(self._broker, self._name, on_status)

    def consume(
        self,
        on_inbound: Callable[[Message], Awaitable[None]],
        on_event: Callable[[Event], Awaitable[None]],
    ) -> None:
        """Have each inbound message and each event handled, as the middlewares make it.

        A handler that returns has its message acked.  One that raises ``DeliveryExhausted`` has it tried again
        later, and ``Passing`` has it put back into its queue, after a pause.  With any other exception it is
        parked, and what is not ``DeliveryFailed`` is logged as a fault of ours.
        """
        self._consume("inbound", Message.from_json, self._chain.inbound, on_inbound)
        self._consume("event", Event.from_json, self._chain.event, on_event)

    def _consume(
        self,
        kind: str,
        read: Callable[[bytes], _Item],
        middlewares: Callable[[_Item], Awaitable[_Item]],
        handler: Callable[[_Item], Awaitable[None]],
    ) -> None:
        failures = Failures(
            self._broker, self._name, kind, self._windows, self._metrics, journal=self._journal
        )
        ordering = Ordering(self._broker.rest)

        async def attempt(task: Task, item: _Item) -> None:
            item = await middlewares(item)
            if self._bridge is None:
                await handler(item)
            else:
                await self._handle_bridged(self._bridge, task, item, partial(handler, item))

        async def handle(delivery: Delivery) -> None:
            now = self._broker.reactor.seconds()
            note(connector=self._name, kind=kind)
            try:
                item = read(decode(delivery, self._broker.max_message_size))
            except UnreadableMessage as fault:
                await failures.park_unreadable(Task(delivery, now), fault)
                return
            span = begin_trace(delivery, item, failures.queue.name)
            key = _key(item)
            task = Task(delivery, now, *self._received(item), key=key)
            if delivery.worn_out:
                await failures.replace(task)
                return
            try:
                await ordering.run(key, partial(failures.run, task, partial(attempt, task, item)))
            finally:
                if span is not None:
                    span.end()

        self._broker.consume(failures.queue, handle)

    async def _handle_bridged(
        self, bridge: Bridge, task: Task, item: Message | Event, handle: Callable[[], Awaitable[None]]
    ) -> None:
        task.forwarded = task.forwarded or forwarded_to(task.delivery.headers)
        if task.forwarded != bridge.queue and (isinstance(item, Event) or await self._prepare(item)):
            await bridge.forward(item)
            task.forwarded = bridge.queue
            fields = {"message_id": task.message_id, "queue": bridge.queue}
            self.log.info("Forwarded {message_id} to {queue}", log_every=True, **fields)
        while True:
            try:
                return await handle()
            except Passing as fault:
                # Back in its queue it would not be known as forwarded, and be forwarded again.
                self.log.warn(
                    "{message_id} waits for {pause:.0f} s: {fault!s}",
                    message_id=task.message_id,
                    pause=REQUEUE_PAUSE,
                    fault=fault,
                )
                await self._broker.rest(deferLater(self._broker.reactor, REQUEUE_PAUSE))

    def _received(self, item: Message | Event) -> tuple[str, bool, str]:
        """Have log and journal tell of ``item`` from now on; returns ``message_id`` to ``event_id`` of its ``Task``."""
        if isinstance(item, Message):
            note(message_id=item.message_id)
            if debugging():
                self.log.debug("Received inbound message {message_id}", from_addr=item.from_addr)
            if self._journal is not None:
                self._journal.note(item.message_id, RECEIVED)
            return item.message_id, item.transport_type == "ussd", ""
        note(message_id=item.user_message_id, event_id=item.event_id)
        if debugging():
            self.log.debug("Received {event_type} of message {message_id}", event_type=str(item.event_type))
        if self._journal is not None:
            word = item.delivery_status or item.event_type
            self._journal.note(
                item.user_message_id, RECEIVED, {"event": word, "event_id": item.event_id[:MAX_ID]}
            )
        return item.user_message_id, False, item.event_id[:MAX_ID]


def _key(item: Message | Event) -> str | None:
    """Return the key that messages share which must not overtake each other."""
    return item.from_addr if isinstance(item, Message) else item.user_message_id
