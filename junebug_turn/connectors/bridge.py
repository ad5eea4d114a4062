"""The bridge between a connector and an AMQP application: Junebug's ``amqp_queue``."""

from __future__ import annotations

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.history import routable_headers
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.telemetry.context import note
from junebug_turn.telemetry.tracing import current_headers


class Bridge:
    """The queues ``{queue}.inbound``, ``{queue}.event`` and ``{queue}.outbound`` of an application without HTTP.

    What the connector receives goes to the first two, and what is in the third goes to the connector's transport, as
    it is.  The queues are declared, so that nothing is lost that comes before the application runs.  Each message is
    acked after the broker's confirm of its copy.

    :param connector: the name of the connector
    :ivar queue: the name of the application's queues
    """

    def __init__(self, broker: Broker, connector: str, queue: str) -> None:
        self._broker = broker
        self._connector = connector
        self.queue = queue
        self._inbound, self._event = Queue(f"{queue}.inbound"), Queue(f"{queue}.event")
        self._source, self._outbound = Queue(f"{queue}.outbound"), Queue(f"{connector}.outbound")
        broker.declare(self._inbound, self._event, self._source)
        broker.consume(self._source, self._forward_outbound)

    async def forward(self, item: Message | Event) -> None:
        """Publish an inbound message or an event for the application.

        :raises Passing: the broker has not confirmed it
        """
        queue = self._inbound if isinstance(item, Message) else self._event
        await self._broker.publish(queue.name, item.to_json(), headers=current_headers()).confirmed

    async def _forward_outbound(self, delivery: Delivery) -> None:
        note(connector=self._connector, kind="outbound")
        publish = self._broker.publish
        try:
            headers = routable_headers(delivery.headers)
            await publish(
                self._outbound.name, delivery.body, headers=headers, original=delivery.header
            ).confirmed
        except ValueError:
            # The headers were read leniently, and can't be written again: the message is worth more.
            await publish(self._outbound.name, delivery.body, original=delivery.header).confirmed
