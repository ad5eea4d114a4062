"""Examination of a broker: whether all is there that the daemon needs, and may be used."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen
from txamqp.client import ChannelClosed

from junebug_turn.amqp import frames
from junebug_turn.amqp.channel import reply_code
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.declaration import ACCESS_REFUSED, Declaring
from junebug_turn.amqp.permissions import NO_QUEUE, ask_to_write
from junebug_turn.amqp.topology import EXCHANGE, EXCHANGE_PART, RETURN_PART, Queue, exchange_part, queue_part


@frozen
class Examination:
    """What an examination of the broker has found, in words that name an exchange or a queue.

    :ivar missing: those that are not there
    :ivar refused: those that are there, and that the user may not configure
    :ivar unwritable: the exchanges that the user may not write to
    """

    missing: tuple[str, ...]
    refused: tuple[str, ...]
    unwritable: tuple[str, ...]


async def examine(protocol: AmqpProtocol, queues: Iterable[Queue]) -> Examination:
    """Look at the exchanges and the queues, without making or changing one.

    RabbitMQ has no question for permissions.  To declare again what is there asks for that to configure; to remove a
    binding that is not there asks for that to write to an exchange; a message for a queue that does not exist asks
    for that to write to the default exchange.

    :raises Closed: the connection was closed
    """
    examining = Declaring(protocol)
    parts, exchanges = [EXCHANGE_PART, RETURN_PART], [EXCHANGE]
    for queue in queues:
        if queue.fanout:
            parts.append(exchange_part(queue.name, "fanout"))
            exchanges.append(queue.name)
        parts.append(queue_part(queue))
    found = {part.what: await examining.examine(part) for part in parts}
    unwritable = [each for each in exchanges if not await examining.may(ask_to_write(each, EXCHANGE))]
    await examining.done()
    if not await _may_copy(protocol):
        unwritable.append("amq.default")
    return Examination(
        missing=tuple(what for what, allowed in found.items() if allowed is None),
        refused=tuple(what for what, allowed in found.items() if allowed is False),
        unwritable=tuple(unwritable),
    )


async def _may_copy(protocol: AmqpProtocol) -> bool:
    channel = await protocol.open_channel()
    channel.publish(frames.publish_arguments("", NO_QUEUE), frames.PLAIN_PROPERTIES, b"{}")
    try:
        await protocol.call(channel.basic_qos(prefetch_count=1))
    except ChannelClosed as refusal:
        if reply_code(refusal) == ACCESS_REFUSED:
            return False
        raise
    await protocol.close_channel(channel)
    return True
