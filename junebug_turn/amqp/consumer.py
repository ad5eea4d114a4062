"""The consumer of a queue: each message has its handler, and no handler's fault ends the consumer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from txamqp.client import ChannelClosed, Closed

from junebug_turn.amqp.channel import Channel, Listener, describe, reply_code
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.delivery import Delivery, DeliveryLost
from junebug_turn.amqp.persistent_channel import PersistentChannel
from junebug_turn.amqp.topology import Queue, Topology, declare
from junebug_turn.errors import Passing

REQUEUE_PAUSE = 5.0  # seconds before a message that can't be handled now goes back to its queue
REDELIVERY = 60.0
"""Seconds after the opening of a channel in which messages of the one before come again, if they come to us."""

NOT_FOUND = 404
_TAG = "junebug-turn"  # the channel's only consumer
_CANCELLED = (
    "the broker cancelled the consumer, and its queue is there: a message may have been unacknowledged for longer than "
    "the broker's consumer_timeout, or the queue has moved to another node"
)

Handler = Callable[[Delivery], Awaitable[None]]


def _digest(delivery: Delivery) -> bytes:
    return sha256(delivery.body).digest()


class Consumer(PersistentChannel):
    """One channel with one consumer on ``queue``.

    A handler that returns has its message acked; one that raises has it put back into the queue, after a
    pause.  At most ``prefetch`` handlers run at once.

    When the channel ends, handlers go on, and a message that the broker delivers again goes to the handler that has it
    already.  The result of one that has returned meanwhile holds for the message that comes again.

    While it is paused its channel stays, so that handlers under way end as usual, and no message comes.

    :ivar paused: whether it shall get no messages
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Callable[[], float],
        topology: Topology,
        queue: Queue,
        handler: Handler,
        prefetch: int,
    ) -> None:
        super().__init__(reactor, rng)
        self._topology = topology
        self.name = queue.name
        self._queue = queue
        self._handler = handler
        self._prefetch = prefetch
        self._handling: dict[Deferred[None], Delivery] = {}
        # Digests of messages that were handled while their channel was gone: their acks were lost.
        self._handled_unacked: OrderedDict[bytes, None] = OrderedDict()
        self._opened = 0.0
        self._idle: Deferred[None] | None = None
        self._stopping = False
        self.paused = False
        self._consuming = False
        self._switching = DeferredLock()

    @property
    def live(self) -> bool:
        """Whether the broker knows this consumer."""
        return self.channel is not None

    @property
    def oldest(self) -> Delivery | None:
        """The message whose handler has run for longest; None where none runs."""
        return next(iter(self._handling.values()), None)

    def wanted(self) -> bool:
        return not self._stopping

    async def open(self, protocol: AmqpProtocol) -> Channel:
        await self._topology.ensure(protocol)
        try:
            return await self._consume(protocol)
        except ChannelClosed as refusal:
            if reply_code(refusal) != NOT_FOUND:
                raise
        finally:
            self._topology.complete(protocol)
        # It was deleted, or is new.
        await declare(protocol, [self._queue])
        return await self._consume(protocol)

    async def _consume(self, protocol: AmqpProtocol) -> Channel:
        def prepare(channel: Channel) -> list[Deferred[Any]]:
            calls = [channel.basic_qos(prefetch_count=self._prefetch)]
            self._consuming = not self.paused
            if self._consuming:
                calls.append(channel.basic_consume(queue=self._queue.name, consumer_tag=_TAG))
            return calls

        return await protocol.open_channel(self, prepare)

    def opened(self) -> None:
        self._opened = self._reactor.seconds()
        if self._consuming:
            self.log.info("Consuming {queue}", queue=self._queue.name)
        # It may have been paused, or not be any more, while the channel was opened.
        Deferred.fromCoroutine(self._switch())

    async def pause(self, paused: bool) -> None:
        """Have no messages come from now on, or have them come again; at once where there is a connection."""
        self.paused = paused
        await self._switch()

    async def _switch(self) -> None:
        await self._switching.acquire()
        try:
            channel = self.channel
            if channel is None or self._stopping or self._consuming is not self.paused:
                return
            self._consuming = not self.paused
            if self.paused:
                await channel.client.call(channel.basic_cancel(consumer_tag=_TAG))
            else:
                await channel.client.call(channel.basic_consume(queue=self.name, consumer_tag=_TAG))
                self.log.info("Consuming {queue}", queue=self.name)
        except Closed:
            # The next channel is as it shall be.
            pass
        finally:
            self._switching.release()

    def cancelled(self) -> None:
        channel, self.channel = self.channel, None
        if channel is None:
            self._end(_CANCELLED)
            return
        # The answer may close the channel, which is not the cause.
        channel.listener = Listener()
        Deferred.fromCoroutine(self._end_cancelled(channel))

    async def _end_cancelled(self, channel: Channel) -> None:
        """Look whether the queue is there, since the broker doesn't say why it cancels a consumer."""
        why = _CANCELLED
        try:
            await channel.client.call(channel.queue_declare(queue=self.name, passive=True))
        except Closed as closed:
            why = "the queue was deleted" if reply_code(closed) == NOT_FOUND else describe(closed)
        self._end(why)

    def delivered(self, delivery: Delivery) -> None:
        if self._stopping:
            delivery.requeue()
            return
        if not delivery.redelivered:
            # Another copy of one that another process has got, perhaps.
            if self._handled_unacked:
                self._handled_unacked.pop(_digest(delivery), None)
        elif self._handled_already(delivery):
            return
        handling = Deferred.fromCoroutine(self._handle(delivery))
        if not handling.called:
            self._handling[handling] = delivery
            handling.addBoth(self._handled, handling)

    def _handled_already(self, again: Delivery) -> bool:
        """Return whether a redelivered message has, or had, a handler; ``again`` is then handed to it."""
        if self._reactor.seconds() - self._opened > REDELIVERY:
            self._handled_unacked.clear()
        if self._handled_unacked and _digest(again) in self._handled_unacked:
            del self._handled_unacked[_digest(again)]
            again.ack()
            return True
        for delivery in self._handling.values():
            if delivery.lost and delivery.body == again.body:
                delivery.renew(again)
                return True
        return False

    def _handled(self, _: object, handling: Deferred[None]) -> None:
        self._handling.pop(handling, None)
        if not self._handling and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)

    async def _handle(self, delivery: Delivery) -> None:
        try:
            await self._handler(delivery)
        except DeliveryLost:
            if not delivery.lost:
                # It came again just now.
                delivery.requeue()
        except Exception as fault:
            if not self._stopping:
                await self._pause(fault)
            delivery.requeue()
        else:
            if delivery.lost and not delivery.settled:
                self._handled_unacked[_digest(delivery)] = None
                if len(self._handled_unacked) > self._prefetch:
                    self._handled_unacked.popitem(last=False)
            delivery.ack()

    async def _pause(self, fault: Exception) -> None:
        if isinstance(fault, Passing):
            self.log.warn(
                "A message of {queue} goes back to it in {pause:.0f} s: {fault!s}",
                queue=self._queue.name,
                pause=REQUEUE_PAUSE,
                fault=fault,
            )
        else:
            self.log.failure("Fault in the handler of {queue}", queue=self._queue.name)
        try:
            await deferLater(self._reactor, REQUEUE_PAUSE)
        except CancelledError:
            pass

    async def stop(self, timeout: float) -> None:
        """End the consumer; handlers under way have ``timeout`` seconds, then their messages go back too."""
        self._stopping = True
        channel = self.channel
        if channel is not None:
            try:
                await channel.client.call(channel.basic_cancel(consumer_tag=_TAG))
            except Closed:
                pass
        if self._handling:
            self._idle = Deferred()
            try:
                await self._idle.addTimeout(timeout, self._reactor)
            except TimeoutError:
                self._idle = None
                self.log.warn(
                    "{count} messages of {queue} were not handled in time and go back to it",
                    count=len(self._handling),
                    queue=self._queue.name,
                )
                for handling in list(self._handling):
                    handling.cancel()
        self.channel = None
        self._end("stopped")
