"""The statuses that vumi's transports publish to ``{connector}.status.status``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from twisted.logger import Logger

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.content_encoding import decode
from junebug_turn.connectors.ordering import Ordering
from junebug_turn.errors import UnreadableMessage
from junebug_turn.messages.vumi import TransportStatus
from junebug_turn.telemetry.context import note

_log = Logger()


def consume_statuses(
    broker: Broker, connector: str, handler: Callable[[TransportStatus], Awaitable[None]]
) -> None:
    """Have ``handler`` called for each status, those of one component one after another.

    One that can't be read is dropped, with a warning: it was about a moment that is over, and the next one takes its
    place.
    """
    queue = Queue(f"{connector}.status.status")
    ordering = Ordering(broker.rest)

    async def handle(delivery: Delivery) -> None:
        note(connector=connector, kind="status")
        try:
            status = TransportStatus.from_json(decode(delivery))
        except UnreadableMessage as fault:
            _log.warn("A status of {queue} is dropped: {fault!s}", queue=queue.name, fault=fault)
            return
        await ordering.run(status.component, partial(handler, status))

    broker.declare(queue)
    broker.consume(queue, handle)
