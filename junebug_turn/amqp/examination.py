"""Examination of a broker: whether all is there that the daemon needs, and may be used."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen
from txamqp.client import ChannelClosed

from junebug_turn.amqp import frames
from junebug_turn.amqp.channel import reply_code
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.topology import (
    ACCESS_REFUSED,
    EXCHANGE,
    Declaring,
    Queue,
    exchange_part,
    queue_part,
)

_NO_QUEUE = "junebug-turn.no-such-queue"


@frozen
class Examination:
    """What an examination of the broker has found, in words that name an exchange or a queue.

    :ivar missing: those that are not there
    :ivar refused: those that are there, and that the user may not configure
    :ivar copies: whether the user may write to the default exchange, through which copies go
    """

    missing: tuple[str, ...]
    refused: tuple[str, ...]
    copies: bool


async def examine(protocol: AmqpProtocol, queues: Iterable[Queue]) -> Examination:
    """Look at the exchange and the queues, without making or changing one.

    RabbitMQ has no question for permissions.  To declare again what is there asks for that to configure; a message for
    a queue that does not exist, which comes back, asks for that to write to the default exchange.

    :raises Closed: the connection was closed
    """
    examining = Declaring(protocol)
    parts = [exchange_part(EXCHANGE, "direct")]
    for queue in queues:
        parts += [exchange_part(queue.name, "fanout")] if queue.fanout else []
        parts.append(queue_part(queue))
    found = {part.what: await examining.examine(part) for part in parts}
    await examining.done()
    return Examination(
        missing=tuple(what for what, allowed in found.items() if allowed is None),
        refused=tuple(what for what, allowed in found.items() if allowed is False),
        copies=await _may_copy(protocol),
    )


async def _may_copy(protocol: AmqpProtocol) -> bool:
    channel = await protocol.open_channel()
    channel.publish(frames.publish_arguments("", _NO_QUEUE), frames.PLAIN_PROPERTIES, b"{}")
    try:
        await protocol.call(channel.basic_qos(prefetch_count=1))
    except ChannelClosed as refusal:
        if reply_code(refusal) == ACCESS_REFUSED:
            return False
        raise
    await protocol.close_channel(channel)
    return True
