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

CHECKED_TOGETHER = 50
"""Of so many queues, those that are declared together; the others follow evenly over the interval.

A new channel's queues wait for those that are being declared, and messages for the time that all this takes.
"""

TURNS = CHECKED_AT_ONCE // CHECKED_TOGETHER


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
        self._turn = 0
        self._due: list[Queue] = []
        self._calls = LoopingCall(lambda: Deferred.fromCoroutine(self._check()))
        self._calls.clock = reactor

    def start(self) -> None:
        """Begin, with a first check after the interval."""
        self._calls.start(CHECK_INTERVAL / TURNS, now=False)

    def stop(self) -> None:
        """End."""
        if self._calls.running:
            self._calls.stop()

    async def _check(self) -> None:
        """Take a turn of an interval: declare all queues in the last one, or a part of many in each."""
        self._turn = (self._turn + 1) % TURNS
        protocol = self._protocol()
        if protocol is None:
            return
        if self._turn == 0:
            self._begin()
        some, self._due = self._due[:CHECKED_TOGETHER], self._due[CHECKED_TOGETHER:]
        with suppress(Closed):
            if some and len(some) == len(self._queues):
                await self._topology.declare(protocol)
            elif some:
                await self._topology.extend(protocol, some)
        if self._turn == 0:
            await self._retired.delete()

    def _begin(self) -> None:
        """Choose the queues of an interval: all, or some of very many."""
        self._topology.forget_faults()
        queues = list(self._queues.values())
        self._due = queues[self._checked : self._checked + CHECKED_AT_ONCE]
        self._checked += len(self._due)
        if self._checked >= len(queues):
            self._checked = 0
