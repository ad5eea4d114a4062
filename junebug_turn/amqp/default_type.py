"""The type of queues that are declared without one: that of the virtual host.

AMQP doesn't tell it.  So a queue is made without a type, and declared once more as a classic one: the broker refuses
that where it is none.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any
from uuid import uuid4

from txamqp.client import ChannelClosed

from junebug_turn.amqp.channel import Channel, reply_code
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.declaration import PRECONDITION_FAILED

CLASSIC, QUORUM = "classic", "quorum"
_PREFIX = "junebug-turn.type"

_EXPIRES = 60_000
"""Milliseconds after which the broker deletes the queue, where that isn't done here."""


async def default_type(protocol: AmqpProtocol) -> str:
    """Find out the type of a queue that is declared without one: ``QUORUM``, or ``CLASSIC``, also where that can't be
    found out.

    :raises Closed: the connection is lost
    """
    declare: dict[str, Any] = {"queue": f"{_PREFIX}.{uuid4().hex}", "durable": True}
    made = methodcaller("queue_declare", **declare, arguments={"x-expires": _EXPIRES})
    if await _refusal(protocol, made) is not None:
        # The user may make no such queue, or there are too many.
        return CLASSIC
    classic = {"x-expires": _EXPIRES, "x-queue-type": CLASSIC}
    refusal = await _refusal(protocol, methodcaller("queue_declare", **declare, arguments=classic))
    await _refusal(protocol, methodcaller("queue_delete", queue=declare["queue"]))
    return QUORUM if refusal == PRECONDITION_FAILED else CLASSIC


async def _refusal(protocol: AmqpProtocol, call: Callable[[Channel], Any]) -> int | None:
    """Make a call on a channel of its own; returns the code with which the broker refused it, None if it did it."""
    channel = await protocol.open_channel()
    try:
        await protocol.call(call(channel))
    except ChannelClosed as refusal:
        return reply_code(refusal)
    await protocol.close_channel(channel)
    return None
