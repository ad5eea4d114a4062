"""Declaring the exchange and the queues that the daemon needs, and counting the messages in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import Factory, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from txamqp.client import ChannelClosed, Closed

from junebug_turn.amqp.channel import Channel, describe, reply_code
from junebug_turn.amqp.connection import AmqpProtocol

EXCHANGE = "vumi"
PRECONDITION_FAILED = 406
AFTER_RETURN = 1.0  # seconds at least between declarations because a message came back

_log = Logger()


@frozen
class Queue:
    """A durable queue.

    :ivar bound: whether it is bound to the exchange, with its name as the routing key
    :ivar arguments: only for a queue of our own: they would be a 406 to the peers that declare it too
    """

    name: str
    bound: bool = True
    arguments: Mapping[str, Any] = Factory(dict)


async def declare(protocol: AmqpProtocol, queues: Iterable[Queue]) -> None:
    """Declare the exchange, the queues and their bindings.

    One that exists with other properties is used as it is, and one that can't be declared stops no other:
    either is logged.

    :raises Closed: the connection is lost
    """
    declaring = _Declaring(protocol)
    await declaring.exchange()
    for queue in queues:
        await declaring.queue(queue)
    await declaring.done()


class Topology:
    """The exchange and the queues that the daemon needs, declared once on each connection that publishes.

    :param queues: they may grow until the first connection
    """

    def __init__(self, queues: Sequence[Queue] = ()) -> None:
        self.queues = queues
        self._lock = DeferredLock()
        self._declared_on: AmqpProtocol | None = None
        self._declared_at = -AFTER_RETURN

    async def ensure(self, protocol: AmqpProtocol) -> None:
        """Declare them, unless that was done on this connection.

        :raises Closed: the connection is lost
        """
        await self._lock.acquire()
        try:
            if self._declared_on is not protocol:
                await self.declare(protocol)
                self._declared_on = protocol
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Have ``ensure`` declare them again: one of them is gone."""
        self._declared_on = None

    async def declare(self, protocol: AmqpProtocol) -> None:
        """Declare them.

        :raises Closed: the connection is lost
        """
        await declare(protocol, list(self.queues))

    def returned(self, protocol: AmqpProtocol, routing_key: str | bytes) -> None:
        """Declare them again where a message for one of them came back: it, or its binding, was deleted under us."""
        now = protocol.clock.seconds()
        if protocol.blocked or now - self._declared_at < AFTER_RETURN:
            return
        if any(queue.name == routing_key for queue in self.queues):
            self._declared_at = now
            declaring = Deferred.fromCoroutine(self.declare(protocol))
            declaring.addErrback(lambda failure: failure.trap(Closed) and None)


async def count(protocol: AmqpProtocol, queues: Iterable[Queue]) -> dict[str, tuple[int, int]]:
    """Count, for each queue that is there, the messages that wait in it, and its consumers.

    :raises Closed: the connection was closed
    """
    counts = {}
    counting = _Declaring(protocol)
    for queue in queues:
        found = await counting.count(queue)
        if found is not None:
            counts[queue.name] = found
    await counting.done()
    return counts


class _Declaring:
    """Declarations on a channel of their own, as each refusal closes it."""

    def __init__(self, protocol: AmqpProtocol) -> None:
        self._protocol = protocol
        self._channel: Channel | None = None

    async def exchange(self) -> None:
        channel = await self._open()
        call = channel.exchange_declare(exchange=EXCHANGE, type="direct", durable=True)
        await self._declared(call, f"exchange {EXCHANGE}")

    async def queue(self, queue: Queue) -> None:
        channel = await self._open()
        call = channel.queue_declare(queue=queue.name, durable=True, arguments=queue.arguments)
        await self._declared(call, f"queue {queue.name}")
        if queue.bound:
            channel = await self._open()
            call = channel.queue_bind(queue=queue.name, exchange=EXCHANGE, routing_key=queue.name)
            await self._declared(call, f"binding of the queue {queue.name} to the exchange {EXCHANGE}")

    async def _declared(self, call: Deferred[Any], what: str) -> None:
        """Wait for a declaration; a refusal is logged."""
        try:
            await self._protocol.call(call)
        except ChannelClosed as refusal:
            if reply_code(refusal) == PRECONDITION_FAILED:
                _log.warn(
                    "The {what} exists with other properties and is used as it is, until it is deleted and made "
                    "anew: {why}",
                    what=what,
                    why=describe(refusal),
                )
            else:
                _log.error("The {what} can't be declared: {why}", what=what, why=describe(refusal))

    async def count(self, queue: Queue) -> tuple[int, int] | None:
        channel = await self._open()
        try:
            ok = await self._protocol.call(channel.queue_declare(queue=queue.name, passive=True))
        except ChannelClosed:
            return None
        return ok.message_count, ok.consumer_count

    async def done(self) -> None:
        if self._channel is not None:
            await self._protocol.close_channel(self._channel)

    async def _open(self) -> Channel:
        if self._channel is None or self._channel.closed:
            self._channel = await self._protocol.open_channel()
        return self._channel
