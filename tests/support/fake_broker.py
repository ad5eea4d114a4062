"""A broker service in memory, for connectors: what is published is recorded, and confirmed by the test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from junebug_turn.amqp import frames
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.publication import Publication
from junebug_turn.amqp.topology import EXCHANGE, Queue


class Channel:
    """The channel of deliveries: their acks and requeues, by tag."""

    def __init__(self) -> None:
        self.closed = False
        self.settled: dict[int, str] = {}

    def acknowledge(self, method: int, tag: int, flags: int) -> None:
        self.settled[tag] = "acked" if method == frames.BASIC_ACK else "requeued"


@define
class Published:
    """A message that was published, and its handle."""

    queue: str
    body: bytes
    exchange: str
    headers: Mapping[str, Any] | None
    expiration: int | None
    original: bytes = b""
    publication: Publication = field(factory=lambda: Publication(Deferred()))


class FakeBroker:
    """What connectors use of ``Broker``.

    :ivar fault: raised by the next message that is published
    :ivar had: the queues that were asked for before a message was put into them
    :ivar confirming: whether a message is confirmed at once
    """

    def __init__(self) -> None:
        self.reactor = Clock()
        self.stopping = False
        self.max_message_size = 16 * 1024 * 1024
        self.confirming = True
        self.fault: Exception | None = None
        self.declared: list[str] = []
        self.had: list[str] = []
        self.retired: list[str] = []
        self.published: list[Published] = []
        self.resting: list[Deferred[None]] = []
        self.handlers: dict[str, Callable[[Delivery], Awaitable[None]]] = {}
        self.channel = Channel()
        self._tag = 0

    def declare(self, *queues: Queue) -> None:
        self.declared += [queue.name for queue in queues]

    async def have(self, queue: Queue) -> None:
        assert queue.can_wait
        self.had.append(queue.name)

    def retire(self, *names: str) -> None:
        self.retired += names

    def consume(self, queue: Queue, handler: Callable[[Delivery], Awaitable[None]]) -> None:
        self.handlers[queue.name] = handler

    def publish(
        self,
        queue: str,
        body: bytes,
        *,
        exchange: str = EXCHANGE,
        headers: Mapping[str, Any] | None = None,
        expiration: int | None = None,
        original: bytes = b"",
    ) -> Publication:
        published = Published(queue, body, exchange, headers, expiration, original)
        self.published.append(published)
        fault, self.fault = self.fault, None
        if fault is not None:
            published.publication.confirmed.errback(fault)
        elif self.confirming:
            published.publication.confirmed.callback(None)
        return published.publication

    async def rest(self, waiting: Deferred[None]) -> None:
        self.resting.append(waiting)
        await waiting

    def delivery(self, body: bytes, headers: Mapping[str, Any] | None = None) -> Delivery:
        """A message from a queue."""
        self._tag += 1
        header = bytes(12) + frames.publish_properties(headers, None)
        return Delivery(self.channel, self._tag, body, header)

    def deliver(self, queue: str, body: bytes, headers: Mapping[str, Any] | None = None) -> Deferred[None]:
        """Have the consumer of ``queue`` handle a message; fires when its handler returns."""
        handling = self.handlers[queue](self.delivery(body, headers))
        return Deferred.fromCoroutine(handling)
