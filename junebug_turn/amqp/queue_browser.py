"""The queue browser: a connection for commands that look into queues; it is not made again when it is lost."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Self

from twisted.internet.defer import Deferred, TimeoutError
from txamqp.client import ChannelClosed, Closed

from junebug_turn.amqp import frames
from junebug_turn.amqp.channel import Channel, Listener, describe, reply_code
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.dead_letters import ready
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.publisher import Publisher
from junebug_turn.amqp.reconnecting import CLOSE_TIMEOUT, connect_to_any, is_login_refusal, refusal
from junebug_turn.amqp.topology import Topology
from junebug_turn.errors import AmqpConnectionError

BATCH = 32
"""Messages that are fetched, and published, at once.  Of more than 32 RabbitMQ changes the order in a quorum queue."""

LOOK = 0.1
"""Seconds without a message until the broker is asked whether there are more."""

PUBLISH_TIMEOUT = 30  # seconds
_NACK_ALL = 3  # basic.nack for all up to this tag, requeued
_NOT_FOUND = 404


class QueueBrowser:
    """A connection on which a command walks through queues and publishes."""

    def __init__(self, reactor: Any, protocol: AmqpProtocol) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._publisher: Publisher | None = None

    @classmethod
    async def open(cls, reactor: Any, options: AmqpOptions, *, trust_root: Any = None) -> Self:
        """Connect and log in.

        :raises AmqpConnectionError: there is no connection, or the login was refused
        """
        try:
            return cls(reactor, await connect_to_any(reactor, options, "command", trust_root=trust_root))
        except Exception as fault:
            why = refusal(fault)
            text = f"no AMQP broker at {options.address}"
            if is_login_refusal(why):
                text = (
                    f"the AMQP broker at {options.address} refused user {options.username} on virtual host "
                    f"{options.vhost}"
                )
            raise AmqpConnectionError(f"{text}: {why}") from None

    async def close(self) -> None:
        """Close the connection in order."""
        if self._publisher is not None:
            self._publisher.stop()
        await self._protocol.disconnect(CLOSE_TIMEOUT)

    async def walk(self, queue: str) -> Walk | None:
        """Begin a walk through ``queue``; None where there is no such queue.

        :raises AmqpConnectionError: the connection is lost, or the queue refused
        """
        try:
            received = _Received()
            channel = await self._protocol.open_channel(received)
            there = await self._protocol.call(channel.queue_declare(queue=queue, passive=True))
        except ChannelClosed as fault:
            if reply_code(fault) == _NOT_FOUND:
                return None
            raise AmqpConnectionError(f"the queue {queue} can't be had: {describe(fault)}") from None
        except Closed as fault:
            raise _lost(fault) from None
        return Walk(self._protocol, channel, received, queue, there.message_count)

    async def publish(
        self, queue: str, original: Delivery, headers: Mapping[str, Any], *, expiration: int | None = None
    ) -> None:
        """Publish a copy of ``original`` to ``queue``, confirmed, with other headers.

        :param expiration: milliseconds until the broker drops it
        :raises Unroutable: there is no such queue
        :raises AmqpConnectionError: the connection is lost, or the broker takes no messages
        :raises ValueError: the headers have no form in AMQP
        """
        if self._publisher is None:
            self._publisher = Publisher(self._reactor, random.random, Topology())
            publisher = self._publisher
            serving = Deferred.fromCoroutine(publisher.serve(self._protocol))
            serving.addBoth(lambda _: publisher.stop())
        publication = self._publisher.publish(
            queue,
            original.body,
            exchange="",
            headers=headers,
            expiration=expiration,
            original=original.header,
        )
        try:
            await publication.confirmed.addTimeout(PUBLISH_TIMEOUT, self._reactor)
        except TimeoutError:
            raise AmqpConnectionError(f"the broker took no message for {PUBLISH_TIMEOUT} s") from None


class _Received(Listener):
    """The messages that came for the consumer of a walk.

    :ivar ended: whether no more can come
    """

    def __init__(self) -> None:
        self.batch: list[Delivery] = []
        self.ended = False
        self._wanted = 0
        self._waiting: Deferred[None] | None = None

    def begin(self, wanted: int) -> None:
        """Begin a batch of so many."""
        self.batch, self._wanted = [], wanted

    @property
    def complete(self) -> bool:
        """Whether the batch has all that it can have."""
        return self.ended or len(self.batch) >= self._wanted

    async def wait(self, clock: Any) -> None:
        """Wait until the batch is complete, or for ``LOOK`` seconds."""
        self._waiting = Deferred()
        try:
            await self._waiting.addTimeout(LOOK, clock)
        except TimeoutError:
            pass
        finally:
            self._waiting = None

    def delivered(self, delivery: Delivery) -> None:
        self.batch.append(delivery)
        self._look()

    def cancelled(self) -> None:
        self.ended = True
        self._look()

    def closed(self, why: str) -> None:
        self.cancelled()

    def _look(self) -> None:
        if self._waiting is not None and self.complete:
            self._waiting.callback(None)


class Walk:
    """A walk through a queue, once from its head, on a channel of its own.

    Messages that are fetched are hidden from other consumers until the end; those not acked by then go back into
    their places.  In a quorum queue they only do so when those that came by one consumer are put back together, and one
    batch after the other: when the channel ends, or after basic.get, they go back in any order.  In a delay queue the
    broker looks at the first message only, so another order would keep some beyond their time.

    :ivar count: how many messages there were in the beginning; no more are fetched, so that a walk ends
    """

    def __init__(
        self, protocol: AmqpProtocol, channel: Channel, received: _Received, queue: str, count: int
    ) -> None:
        self._protocol = protocol
        self._channel = channel
        self._received = received
        self._queue = queue
        self._left = count
        self._batch: list[Delivery] = []
        # The last tag of each batch that goes back.
        self._ends: list[int] = []
        self._number = 0
        self.count = count

    async def fetch(self) -> list[Delivery]:
        """Fetch the next messages, a few of them; none at the end.

        :raises AmqpConnectionError: the connection is lost
        """
        self._note_end()
        wanted = min(BATCH, self._left)
        self._left -= wanted
        try:
            self._batch = await self._fetch(wanted) if wanted else []
        except Closed as fault:
            raise _lost(fault) from None
        return self._batch

    async def _fetch(self, wanted: int) -> list[Delivery]:
        protocol, channel, received = self._protocol, self._channel, self._received
        received.begin(wanted)
        self._number += 1
        tag = f"walk-{self._number}"
        begun = [
            channel.basic_qos(prefetch_count=wanted),
            channel.basic_consume(queue=self._queue, consumer_tag=tag),
        ]
        for done, answer in await protocol.calls(begun):
            if not done:
                answer.raiseException()
        while not received.complete:
            before = len(received.batch)
            await received.wait(protocol.clock)
            # Others may have taken some, or their time is over.
            if len(received.batch) == before and not await ready(protocol, channel, self._queue):
                break
        # Before any is acked: one more would come for each.
        await protocol.call(channel.basic_cancel(consumer_tag=tag))
        return received.batch

    async def end(self) -> None:
        """Send the acks to the broker, and have the rest go back.

        :raises AmqpConnectionError: the connection is lost
        """
        self._note_end()
        try:
            for tag in self._ends:
                self._channel.acknowledge(frames.BASIC_NACK, tag, _NACK_ALL)
                # One batch at a time: RabbitMQ would change the order of many.
                await self._protocol.call(self._channel.basic_qos(prefetch_count=BATCH))
            await self._protocol.close_channel(self._channel)
        except Closed as fault:
            raise _lost(fault) from None

    def _note_end(self) -> None:
        """Note the end of the batch, whose messages are done with or go back."""
        left = [delivery.tag for delivery in self._batch if not delivery.settled]
        self._ends += left[-1:]
        self._batch = []


def _lost(fault: object) -> AmqpConnectionError:
    return AmqpConnectionError(f"the connection to the AMQP broker is lost: {describe(fault)}")
