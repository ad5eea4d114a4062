"""A part of the broker service that is used for a time: the queues and consumers of one channel."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.consumer import Consumer, Handler
from junebug_turn.amqp.topology import Queue


class BrokerPart:
    """The broker service, as a user sees it that can be stopped alone; all but this is the service's own.

    The queues stay at the broker when it is stopped: what is in them waits there.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._queues: list[Queue] = []
        self._consumers: list[Consumer] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def declare(self, *queues: Queue) -> None:
        """Declare these queues at each connection, and with ``prepare`` on the present one."""
        self._queues += queues
        self._broker.declare(*queues)

    def consume(self, queue: Queue, handler: Handler) -> Consumer:
        """Have ``handler`` called for each message of ``queue``: see ``Broker.consume``."""
        consumer = self._broker.consume(queue, handler)
        self._consumers.append(consumer)
        return consumer

    async def prepare(self) -> None:
        """Declare its queues now, where there is a connection."""
        await self._broker.declare_now(self._queues)

    def faults(self) -> list[str]:
        """Return why some of its queues can't be used, as of the last declaration."""
        return self._broker.topology.faults_of(self._queues)

    async def stop(self, timeout: float) -> None:
        """End its consumers, and declare its queues no more.

        :param timeout: the seconds that handlers under way have, before their messages go back to the queue
        """
        consumers, self._consumers = self._consumers, []
        stopping = [self._broker.stop_consumer(each, timeout) for each in consumers]
        await gatherResults([Deferred.fromCoroutine(each) for each in stopping])
        self.forget_all()

    def forget_all(self) -> None:
        """Declare its queues no more."""
        queues, self._queues = self._queues, []
        self._broker.forget(*queues)
