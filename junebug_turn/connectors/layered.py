"""A connector whose messages and events pass through middlewares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred

from junebug_turn.amqp.broker import Broker
from junebug_turn.connectors.connector import Connector
from junebug_turn.messages.vumi import Event, Message
from junebug_turn.middlewares import Chain


class LayeredConnector(Connector):
    """A ``Connector`` behind a chain of middlewares.

    What a middleware raises is for whoever called: ``publish_outbound`` fails with it, and an inbound message or
    an event is parked by it.

    :param options: those of ``Connector``
    """

    def __init__(self, broker: Broker, name: str, chain: Chain, **options: Any) -> None:
        super().__init__(broker, name, **options)
        self._chain = chain

    def publish_outbound(self, message: Message) -> Deferred[None]:
        """Give ``message`` to the transport, as the middlewares make it."""
        if not self._chain.changes_outbound:
            return super().publish_outbound(message)
        return Deferred.fromCoroutine(self._publish(message))

    async def _publish(self, message: Message) -> None:
        await super().publish_outbound(await self._chain.outbound(message))

    def consume(
        self,
        on_inbound: Callable[[Message], Awaitable[None]],
        on_event: Callable[[Event], Awaitable[None]],
    ) -> None:
        """Have each inbound message and each event handled, as the middlewares make it."""

        async def inbound(message: Message) -> None:
            await on_inbound(await self._chain.inbound(message))

        async def event(event: Event) -> None:
            await on_event(await self._chain.event(event))

        super().consume(inbound, event)
