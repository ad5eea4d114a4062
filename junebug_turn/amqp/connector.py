"""A connector: the queues of one vumi transport, as the application at their other side sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.channel import Delivery
from junebug_turn.amqp.consumer import Handler
from junebug_turn.amqp.topology import Queue
from junebug_turn.errors import DeliveryFailed, Passing, UnreadableMessage
from junebug_turn.logs import note
from junebug_turn.messages import Event, Message
from junebug_turn.metrics import Metrics

# RabbitMQ sends a copy to each queue that these headers name.
_ROUTING_HEADERS = ("CC", "BCC")

_Read = TypeVar("_Read", Message, Event)


class Connector:
    """The queues ``{name}.inbound``, ``.event`` and ``.outbound``, and those where we park.

    A message that can't be handled is parked: a confirmed copy goes to ``{name}.inbound.parked`` or
    ``{name}.event.parked`` before the original is acked.  The copy has the body and the headers of the
    original, and these:

    - ``reason``: that of ``DeliveryFailed``, or ``unreadable``, or ``error`` for a fault of our own
    - ``last_status``: the last HTTP status, an integer; not there when nothing answered
    - ``attempts``: how many deliveries were tried, an integer
    - ``first_failure``, ``last_failure``: times, in ISO 8601, UTC, to the second
    """

    log = Logger()

    def __init__(self, broker: Broker, name: str, *, metrics: Metrics | None = None) -> None:
        self._broker = broker
        self._metrics = metrics or Metrics()
        self._name = name
        self._inbound = Queue(f"{name}.inbound")
        self._event = Queue(f"{name}.event")
        self._outbound = Queue(f"{name}.outbound")
        broker.declare(
            self._inbound, self._event, self._outbound, _parked(self._inbound), _parked(self._event)
        )

    def publish_outbound(self, message: Message) -> Deferred[None]:
        """Give ``message`` to the transport; fires and fails as ``Broker.publish`` does."""
        fields = {"connector": self._name, "message_id": message.message_id}
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

        A handler that returns has its message acked.  ``Passing`` has it put back into its queue, after a pause.
        What else it raises has it parked; what is not ``DeliveryFailed`` is logged as a fault of ours.
        """
        self._broker.consume(self._inbound, self._handler(self._inbound, Message.from_json, on_inbound))
        self._broker.consume(self._event, self._handler(self._event, Event.from_json, on_event))

    def _handler(
        self, queue: Queue, read: Callable[[bytes], _Read], handler: Callable[[_Read], Awaitable[None]]
    ) -> Handler:
        async def handle(delivery: Delivery) -> None:
            message_id = "?"
            note(connector=self._name, kind=queue.name.removeprefix(f"{self._name}."))
            try:
                message = read(delivery.body)
                message_id = self._received(message)
                await handler(message)
            except UnreadableMessage as fault:
                await self._park(delivery, queue, message_id, self._failure("unreadable", str(fault), 0))
            except DeliveryFailed as failure:
                await self._park(delivery, queue, message_id, failure)
            except Passing:
                # What the handler needs is away, for this message as for all others: it waits with them.
                raise
            except Exception as fault:
                if isinstance(fault, CancelledError) and self._broker.stopping:
                    raise
                self.log.failure(
                    "Fault in handling {message_id} of {queue}", message_id=message_id, queue=queue.name
                )
                await self._park(delivery, queue, message_id, self._failure("error", type(fault).__name__, 1))

        return handle

    def _received(self, message: Message | Event) -> str:
        """Have what is logged from now on tell of ``message``; returns the id of that, or of the event's message."""
        if isinstance(message, Message):
            note(message_id=message.message_id)
            self.log.debug("Received inbound message {message_id}", from_addr=message.from_addr)
            return message.message_id
        note(message_id=message.user_message_id, event_id=message.event_id)
        self.log.debug("Received {event_type} of message {message_id}", event_type=str(message.event_type))
        return message.user_message_id

    def _failure(self, reason: str, text: str, attempts: int) -> DeliveryFailed:
        now = self._broker.reactor.seconds()
        return DeliveryFailed(
            text, reason=reason, last_status=None, attempts=attempts, first_failure=now, last_failure=now
        )

    async def _park(self, delivery: Delivery, queue: Queue, message_id: str, failure: DeliveryFailed) -> None:
        """Publish the copy; what this raises keeps the original from being acked."""
        ours: dict[str, Any] = {"reason": failure.reason, "attempts": failure.attempts}
        if failure.last_status is not None:
            ours["last_status"] = failure.last_status
        ours["first_failure"] = _iso(failure.first_failure)
        ours["last_failure"] = _iso(failure.last_failure)
        parked = _parked(queue).name
        self._metrics.parked(failure.reason)
        try:
            await self._broker.publish(parked, delivery.body, exchange="", headers=_headers(delivery) | ours)
        except ValueError:
            # The original's headers can't be written again (with ours they may be larger than a frame).
            await self._broker.publish(parked, delivery.body, exchange="", headers=ours)
        self.log.warn(
            "Parked {message_id} in {queue}: {reason}, last status {status}, {attempts} attempts: {failure!s}; "
            "see docs/troubleshooting.md for how to deliver it again",
            message_id=message_id,
            queue=parked,
            reason=failure.reason,
            status=failure.last_status,
            attempts=failure.attempts,
            failure=failure,
        )


def _parked(queue: Queue) -> Queue:
    return Queue(f"{queue.name}.parked", bound=False)


def _headers(delivery: Delivery) -> dict[Any, Any]:
    try:
        headers = delivery.properties.get("headers") or {}
    except ValueError:
        return {}
    return {name: value for name, value in headers.items() if name not in _ROUTING_HEADERS}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()
