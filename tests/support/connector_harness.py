"""Our side of the AMQP tests on a real RabbitMQ, and what they ask of pika."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker
from twisted.internet import reactor
from twisted.internet.task import deferLater

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.connectors.connector import Connector
from junebug_turn.connectors.retry_queues import RetryWindows
from junebug_turn.messages.vumi import Event, Message
from tests.support.delayed import is_delayed, look, take
from tests.support.patience import PATIENCE
from tools.servers.rabbitmq import RabbitNode


async def until(condition: Callable[[], Any], limit: float = 60.0) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + limit * PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come"
        await deferLater(reactor, 0.02)


def options(node: RabbitNode, **changes: Any) -> AmqpOptions:
    return AmqpOptions(
        **{"hostname": node.host, "port": node.port, "username": node.username, "password": node.password}
        | changes
    )


def message(content: str = "hello", **changes: Any) -> Message:
    fields = {"to_addr": "+1", "from_addr": "+2", "transport_name": "t", "transport_type": "sms"} | changes
    return Message(content=content, **fields)


class Side:
    """A broker with one connector of ours, and what its handlers saw."""

    def __init__(
        self,
        node: RabbitNode,
        name: str,
        windows: RetryWindows | None = None,
        *,
        amqp: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.broker = Broker(reactor, options(node, **(amqp or {})), **settings)
        self.name = name
        self.connector = Connector(self.broker, name, windows)
        self.inbound: list[Message] = []
        self.events: list[Event] = []
        self.handle: Callable[[Message], Awaitable[None]] = self.keep
        self.handle_event: Callable[[Event], Awaitable[None]] = self.keep_event

    async def keep(self, message: Message) -> None:
        self.inbound.append(message)

    async def _on_inbound(self, message: Message) -> None:
        await self.handle(message)

    async def keep_event(self, event: Event) -> None:
        self.events.append(event)

    async def _on_event(self, event: Event) -> None:
        await self.handle_event(event)

    async def start(self) -> Side:
        self.connector.consume(self._on_inbound, self._on_event)
        self.broker.startService()
        await until(lambda: self.live() and self.broker.status()["publishing"])
        return self

    def live(self) -> bool:
        status = self.broker.status()
        return bool(status["connected"] and all(status["consumers"].values()))


def count(channel: BlockingChannel, queue: str) -> int:
    """How many messages are ready in ``queue`` (see ``delayed`` too); -1 where there is no such queue."""
    if is_delayed(queue):
        return len(look(channel, queue))
    own = channel.connection.channel()
    try:
        ready: int = own.queue_declare(queue, passive=True).method.message_count
    except ChannelClosedByBroker:
        return -1
    own.close()
    return ready


def send(channel: BlockingChannel, queue: str, body: bytes, **properties: Any) -> None:
    channel.basic_publish("vumi", queue, body, pika.BasicProperties(**properties))


async def parked(channel: BlockingChannel, queue: str) -> tuple[Any, bytes]:
    """The properties and the body of the message that is parked there."""
    if is_delayed(queue):
        found: list[Any] = []
        # In one go: after a look it may be on its way back already.
        await until(lambda: found.extend(take(channel, queue)) or found)
        ((_, properties, body),) = found
        return properties, body
    await until(lambda: count(channel, queue) == 1)
    _, properties, body = channel.basic_get(queue, auto_ack=True)
    return properties, body
