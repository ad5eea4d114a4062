"""The queue browser: a connection for commands that look into queues; it is not made again when it is lost."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Self

from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.python.failure import Failure
from txamqp.client import ChannelClosed, Closed

from junebug_turn.amqp.channel import Channel, describe, reply_code
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.publisher import Publisher
from junebug_turn.amqp.reconnecting import CLOSE_TIMEOUT, connect_to_any, is_login_refusal, refusal
from junebug_turn.amqp.topology import Topology
from junebug_turn.errors import AmqpConnectionError

BATCH = 50  # messages that are fetched, and published, at once
PUBLISH_TIMEOUT = 30  # seconds
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
            channel = await self._protocol.open_channel()
            there = await self._protocol.call(channel.queue_declare(queue=queue, passive=True))
        except ChannelClosed as fault:
            if reply_code(fault) == _NOT_FOUND:
                return None
            raise AmqpConnectionError(f"the queue {queue} can't be had: {describe(fault)}") from None
        except Closed as fault:
            raise _lost(fault) from None
        return Walk(self._protocol, channel, queue, there.message_count)

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


class Walk:
    """A walk through a queue, once from its head, on a channel of its own.

    Messages that are fetched are hidden from other consumers until the end; those not acked by then go back into
    their places.

    :ivar count: how many messages there were in the beginning; no more are fetched, so that a walk ends
    """

    def __init__(self, protocol: AmqpProtocol, channel: Channel, queue: str, count: int) -> None:
        self._protocol = protocol
        self._channel = channel
        self._queue = queue
        self._left = count
        self.count = count

    async def fetch(self) -> list[Delivery]:
        """Fetch the next messages, a few of them; none at the end.

        :raises AmqpConnectionError: the connection is lost
        """
        wanted = min(BATCH, self._left)
        self._left -= wanted
        # Asked for at once: one after the other, each would take a round trip.
        asked = [self._protocol.call(self._channel.basic_get(queue=self._queue)) for _ in range(wanted)]
        answers = await DeferredList([Deferred.fromCoroutine(answer) for answer in asked], consumeErrors=True)
        for _, answer in answers:
            if isinstance(answer, Failure):
                if answer.check(Closed):
                    raise _lost(answer) from None
                answer.raiseException()
        return [answer.content for _, answer in answers if answer.content is not None]

    async def end(self) -> None:
        """Send the acks to the broker, and have the rest go back.

        :raises AmqpConnectionError: the connection is lost
        """
        try:
            await self._protocol.close_channel(self._channel)
        except Closed as fault:
            raise _lost(fault) from None


def _lost(fault: object) -> AmqpConnectionError:
    return AmqpConnectionError(f"the connection to the AMQP broker is lost: {describe(fault)}")
