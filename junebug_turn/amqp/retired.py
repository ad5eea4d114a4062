"""Retired queues: those that a former version of the daemon had, which are deleted when they are empty."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from operator import methodcaller
from typing import Any

from twisted.logger import Logger
from txamqp.client import ChannelClosed, Closed

from junebug_turn.amqp.channel import describe, reply_code
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.declaration import PRECONDITION_FAILED, Declaring, Step
from junebug_turn.amqp.reconnecting import CLOSE_TIMEOUT

INTERVAL = 3600.0
"""Seconds between two attempts."""

AT_ONCE = 100
"""Queues that are deleted at once: there is no hurry, and changes and messages would wait for thousands."""

_NOT_IMPLEMENTED = "540"


class RetiredQueues:
    """The queues with these ``names``, until none of them is left.

    :param connect: makes a connection of its own, since RabbitMQ closes it where one of them is a quorum queue
    """

    log = Logger()

    def __init__(self, reactor: Any, connect: Callable[[], Awaitable[AmqpProtocol]]) -> None:
        self._reactor = reactor
        self._connect = connect
        self._next = 0.0
        self._due: list[str] = []
        self.names: dict[str, None] = {}

    def add(self, names: Iterable[str]) -> None:
        """Delete these too."""
        self.names |= dict.fromkeys(names)

    async def delete(self) -> None:
        """Delete some of those that are empty and not used; nothing where all were tried a short time ago."""
        now = self._reactor.seconds()
        if not self._due and now >= self._next:
            self._due = list(self.names)
            self._next = now + INTERVAL
        if not self._due:
            return
        try:
            protocol = await self._connect()
        except Exception:
            return
        names, self._due = self._due[:AT_ONCE], self._due[AT_ONCE:]
        try:
            if await delete_unused(protocol, names):
                for name in names:
                    del self.names[name]
        except Closed as fault:
            if describe(fault).startswith(_NOT_IMPLEMENTED):
                self.names.clear()
                self._due.clear()
                self.log.info(
                    "The delay queues of a former version are quorum queues and stay: delete those that are empty"
                )
        finally:
            await protocol.disconnect(CLOSE_TIMEOUT)


async def delete_unused(protocol: AmqpProtocol, names: Iterable[str]) -> bool:
    """Delete the queues with these names that are empty and have no consumer; returns whether none is left.

    RabbitMQ closes the connection where one is a quorum queue, of which it can't tell whether it is unused.

    :raises Closed: the connection was closed
    """
    left = False

    async def refused(refusal: ChannelClosed) -> None:
        nonlocal left
        left = left or reply_code(refusal) == PRECONDITION_FAILED

    deleting = Declaring(protocol)
    delete = partial(methodcaller, "queue_delete", if_unused=True, if_empty=True)
    await deleting.each([Step(delete(queue=name), lambda ok: None, refused) for name in names])
    await deleting.done()
    return not left
