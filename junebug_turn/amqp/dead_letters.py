"""Dead-lettering of all messages that are in a queue, before their time there is over."""

from __future__ import annotations

from twisted.internet.task import deferLater

from junebug_turn.amqp.channel import Channel, Listener
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.delivery import Delivery

PREFETCH = 300
"""Messages that are on their way from the broker at once.  None is held: each is rejected as it comes."""

LOOK = 0.1
"""Seconds between two looks at how many have come."""

_TAG = "junebug-turn"  # the channel's only consumer


class _Rejecting(Listener):
    """The rejection of each message that a consumer gets.

    :ivar ended: whether the broker has cancelled the consumer
    """

    def __init__(self) -> None:
        self.count = 0
        self.ended = False

    def delivered(self, delivery: Delivery) -> None:
        self.count += 1
        delivery.reject()

    def cancelled(self) -> None:
        self.ended = True


async def dead_letter(protocol: AmqpProtocol, queue: str) -> int:
    """Have the broker dead-letter the messages that are in ``queue`` now, in their order; returns how many were.

    They are rejected and not put back, so that no quorum queue's delivery limit is reached.  Others may take some of
    them meanwhile, and a few that come meanwhile are dead-lettered, too.

    :raises Closed: the channel or the connection was closed; what is left waits in the queue
    """
    rejecting = _Rejecting()
    channel = await protocol.open_channel(
        rejecting, lambda channel: [channel.basic_qos(prefetch_count=PREFETCH)]
    )
    wanted = await ready(protocol, channel, queue)
    if wanted:
        await protocol.call(channel.basic_consume(queue=queue, consumer_tag=_TAG))
        before = 0
        while rejecting.count < wanted and not (rejecting.ended or channel.closed):
            await deferLater(protocol.clock, LOOK)
            if rejecting.count == before and not await ready(protocol, channel, queue):
                break
            before = rejecting.count
        # No message comes after the answer: one that came would go back into the queue, which counts.
        await protocol.call(channel.basic_cancel(consumer_tag=_TAG))
    await protocol.close_channel(channel)
    return rejecting.count


async def ready(protocol: AmqpProtocol, channel: Channel, queue: str) -> int:
    """Ask how many messages of a queue are with no consumer."""
    there = await protocol.call(channel.queue_declare(queue=queue, passive=True))
    return int(there.message_count)
