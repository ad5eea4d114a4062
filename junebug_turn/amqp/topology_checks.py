"""Declarations of all queues again, now and then, on a connection that lives.

Tested by tests/unit/amqp/test_broker.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from txamqp.client import Closed

from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.retired import RetiredQueues
from junebug_turn.amqp.topology import Queue, Topology

CHECK_INTERVAL = 15.0
"""Seconds between declarations of all queues on a connection that lives."""

CHECKED_AT_ONCE = 1000
"""Queues that are declared then at most: each takes a part of a millisecond."""

CHECKED_TOGETHER = 100
"""Of so many queues, those that are declared before others can be: a new channel's must not wait for all."""


class TopologyChecks:
    """Declares all queues each ``CHECK_INTERVAL``, since an exchange, a queue or a binding may have been deleted.

    Retired queues are looked at then, too.

    :param queues: name -> queue; it can change
    :param protocol: returns the connection to declare on; None: not now
    """

    def __init__(
        self,
        reactor: Any,
        topology: Topology,
        queues: Mapping[str, Queue],
        retired: RetiredQueues,
        protocol: Callable[[], AmqpProtocol | None],
    ) -> None:
        self._topology = topology
        self._queues = queues
        self._retired = retired
        self._protocol = protocol
        self._checked = 0
        self._calls = LoopingCall(lambda: Deferred.fromCoroutine(self._check()))
        self._calls.clock = reactor

    def start(self) -> None:
        """Begin, with a first check after the interval."""
        self._calls.start(CHECK_INTERVAL, now=False)

    def stop(self) -> None:
        """End."""
        if self._calls.running:
            self._calls.stop()

    async def _check(self) -> None:
        """Declare all, or some of very many."""
        protocol = self._protocol()
        if protocol is None:
            return
        queues = list(self._queues.values())
        some = queues[self._checked : self._checked + CHECKED_AT_ONCE]
        self._checked = self._checked + len(some) if self._checked + len(some) < len(queues) else 0
        with suppress(Closed):
            if len(some) == len(queues):
                await self._topology.declare(protocol)
            else:
                for at in range(0, len(some), CHECKED_TOGETHER):
                    await self._topology.extend(protocol, some[at : at + CHECKED_TOGETHER])
        await self._retired.delete()
