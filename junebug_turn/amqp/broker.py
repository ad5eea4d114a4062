"""The AMQP service, as the rest of the daemon uses it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from txamqp.client import Closed

from junebug_turn.amqp.backlog import MAX_BYTES, Backlog
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.consumer import Consumer, Handler
from junebug_turn.amqp.consumers import Consumers
from junebug_turn.amqp.consuming import ConsumingConnections
from junebug_turn.amqp.dead_letters import dead_letter
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.examination import Examination, examine
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.permissions import fault
from junebug_turn.amqp.publication import Publication
from junebug_turn.amqp.publisher import Publisher
from junebug_turn.amqp.reconnecting import ReconnectingConnection, connect_to_any
from junebug_turn.amqp.refusals import MessageSizes
from junebug_turn.amqp.retired import RetiredQueues
from junebug_turn.amqp.topology import EXCHANGE, Queue, Topology, count
from junebug_turn.amqp.topology_checks import TopologyChecks


class Broker(Service):
    """The AMQP broker, reconnected to whenever it is lost.

    There are two connections, and more where they have not enough channels for all consumers: a broker that is short of
    memory or disk stops reading from those that publish, and acknowledgements must not stand behind that.

    Three channels publish: one the messages for the exchange, one copies for queues of our own, through other
    exchanges, and one, one by one, messages of a size that the broker has not taken yet.  So a message that closes its
    channel leaves the others alone.

    :param prefetch: how many messages of each queue are handled at once
    :param rng: numbers in [0, 1) for the jitter of reconnecting
    :param trust_root: see ``connect``
    :ivar max_message_size: bytes of the largest message that is to be read
    :ivar topology: its queues
    :ivar backlog: the bound of the messages for the exchange whose outcome is not known
    """

    def __init__(
        self,
        reactor: Any,
        options: AmqpOptions,
        *,
        prefetch: int = 20,
        rng: Callable[[], float] = random.random,
        trust_root: Any = None,
    ) -> None:
        self.reactor = reactor
        self.max_message_size = options.max_message_size
        self._several = len(options.nodes) > 1
        self._prefetch = prefetch
        self._rng = rng
        self._queues: dict[str, Queue] = {}
        self._declarers: Counter[str] = Counter()
        self._consumers = Consumers()
        self._stopping = False
        self._resting: set[Deferred[None]] = set()
        self._retired = RetiredQueues(
            reactor, partial(connect_to_any, reactor, options, "cleaning", trust_root=trust_root)
        )
        connection = partial(ReconnectingConnection, reactor, options, rng=rng, trust_root=trust_root)
        self._publishing, self._consuming = connection("publishing"), ConsumingConnections(connection)
        self._sizes = MessageSizes()
        # Clients can't take the room of the copies, which deliveries need to go on.
        # A request that waits has its answer beside the message, with the content again.
        self.backlog, self._backlog_of_copies = Backlog(max_bytes=MAX_BYTES // 2), Backlog()
        topology = self.topology = Topology(self._queues.values())
        self._publisher = Publisher(reactor, rng, topology, sizes=self._sizes)
        self._copies = Publisher(reactor, rng, topology, sizes=self._sizes, name="publishing copies")
        self._large = Publisher(
            reactor, rng, topology, sizes=self._sizes, name="publishing large messages", alone=True
        )
        self._publishers = (self._publisher, self._copies, self._large)
        self._checks = TopologyChecks(reactor, topology, self._queues, self._retired, self._protocol_to_check)
        for publisher in self._publishers:
            self._publishing.add(publisher)

    def startService(self) -> None:
        """Connect; messages that are published before that wait."""
        super().startService()
        self._publishing.start()
        self._consuming.start()
        self._checks.start()

    def stopService(self) -> Deferred[Any]:
        """Close all connections in order; messages that are not published yet fail."""
        super().stopService()
        self._stopping = True
        self._checks.stop()
        for publisher in self._publishers:
            publisher.stop()
        connections = (self._publishing, self._consuming)
        return DeferredList([Deferred.fromCoroutine(each.stop()) for each in connections], consumeErrors=True)

    def publish(
        self,
        routing_key: str,
        body: bytes,
        *,
        exchange: str = EXCHANGE,
        headers: Mapping[str, Any] | None = None,
        expiration: int | None = None,
        original: bytes = b"",
    ) -> Publication:
        """Publish a message: see ``Publisher.publish``."""
        own = exchange != EXCHANGE
        publisher = self._copies if own else self._publisher
        if len(body) > self._sizes.proven:
            publisher = self._large
        return publisher.publish(
            routing_key,
            body,
            exchange=exchange,
            headers=headers,
            expiration=expiration,
            original=original,
            backlog=self._backlog_of_copies if own else self.backlog,
        )

    def _protocol_to_check(self) -> AmqpProtocol | None:
        # On the connection that consumes: a broker that blocks publishers doesn't read the other one.
        return None if self._publisher.channel is None else self._consuming.protocol

    def unconfirmed(self) -> tuple[int, int]:
        """Count the messages whose outcome is not known, and their bytes."""
        backlogs = (self.backlog, self._backlog_of_copies)
        return sum(each.messages for each in backlogs), sum(each.size for each in backlogs)

    @property
    def connected(self) -> bool:
        """Whether all connections are up."""
        return self._publishing.protocol is not None and self._consuming.connected

    @property
    def takes_messages(self) -> bool:
        """Whether an outbound message that is published now can be confirmed now."""
        protocol = self._publishing.protocol
        return (
            protocol is not None
            and not protocol.blocked
            and self._publisher.channel is not None
            and not self._publisher.refused
        )

    @property
    def stopping(self) -> bool:
        """Whether handlers are cancelled because the service stops."""
        return self._stopping

    def status(self) -> dict[str, Any]:
        """Report the state of the connections, the publisher and the consumers, for operators.

        ``publishing`` is whether the queues are declared and the channels to publish are open; ``faults``, if any, are
        what the broker doesn't give the daemon.  ``hosts``, if several are configured, has those of the connections.
        ``max_message_size`` is the broker's limit, in bytes, once a refused message has shown it on the present
        connection.  See ``Consumers.status`` for the others.
        """
        protocol = self._publishing.protocol
        status: dict[str, Any] = {
            "connected": self.connected,
            "publishing": all(each.channel is not None for each in self._publishers),
            "blocked": protocol is not None and protocol.blocked,
            **self._consumers.status(),
        }
        if self._several:
            addresses = {each.address for each in (self._publishing, *self._consuming)}
            status["hosts"] = sorted(filter(None, addresses))
        if protocol is not None and self._sizes.limit is not None:
            status["max_message_size"] = self._sizes.limit
        faults = [each.fault for each in (self._publishing, *self._consuming) if each.fault]
        faults += [fault(what, why) for what, why in self.topology.faults.items()]
        faults += [publisher.refused for publisher in self._publishers if publisher.refused]
        return status | {"faults": faults} if faults else status

    def oldest(self) -> dict[str, Delivery]:
        """Return the oldest message under way of each queue: see ``Consumers.oldest``."""
        return self._consumers.oldest()

    @property
    def channels_needed(self) -> int:
        """The number of channels that the broker must allow on a connection."""
        return max(self._publishing.channels_needed, self._consuming.channels_needed)

    async def examine(self, protocol: AmqpProtocol) -> Examination:
        """Look at what the service needs, on a connection of the caller's, while it need not run: see ``examine``."""
        return await examine(protocol, self._queues.values())

    async def count_queues(self) -> dict[str, tuple[int, int]]:
        """Count, for each declared queue, its messages and its consumers; empty while there is no connection.

        :raises Closed: the connection was lost meanwhile
        """
        # On the connection that consumes: a broker that blocks publishers doesn't read the other one.
        protocol = self._consuming.protocol
        waiting = self.topology.waiting
        queues = [queue for queue in self._queues.values() if queue.name not in waiting]
        return {} if protocol is None else await count(protocol, queues)

    async def dead_letter(self, queue: str) -> int | None:
        """Have the messages of a queue dead-lettered now: see ``dead_letter``; None where that failed."""
        protocol = self._consuming.protocol
        with suppress(Closed):
            return None if protocol is None else await dead_letter(protocol, queue)
        return None

    def declare(self, *queues: Queue) -> None:
        """Declare these queues at each connection from now on; see ``declare_now`` for the present one."""
        for queue in queues:
            self._queues[queue.name] = queue
            self._declarers[queue.name] += 1

    async def declare_now(self, queues: Collection[Queue]) -> None:
        """Declare queues on the present connection, where there is one."""
        protocol = self._consuming.protocol
        if protocol is not None:
            with suppress(Closed):
                await self.topology.extend(protocol, queues)

    async def have(self, queue: Queue) -> None:
        """Declare a queue of ``declare`` that can wait, unless that was done."""
        if queue.name in self.topology.waiting:
            await self.declare_now([queue])

    def forget(self, *queues: Queue) -> None:
        """Declare these queues no more, once for each time that ``declare`` was called for one; they stay there."""
        for queue in queues:
            self._declarers[queue.name] -= 1
            if self._declarers[queue.name] == 0:
                del self._declarers[queue.name], self._queues[queue.name]

    def retire(self, *names: str) -> None:
        """Delete the queues with these names, which a former version had, as soon as they are empty and not used."""
        self._retired.add(names)

    def consume(self, queue: Queue, handler: Handler) -> Consumer:
        """Have ``handler`` called for each message of ``queue``: see ``Consumer`` for the promises of a handler."""
        consumer = Consumer(self.reactor, self._rng, self.topology, queue, handler, self._prefetch)
        self._consumers.append(consumer)
        self._consuming.add(consumer)
        return consumer

    async def pause(self, queues: Collection[str], paused: bool) -> None:
        """Pause consumers, or resume them: see ``Consumers.pause``."""
        await self._consumers.pause(queues, paused)

    async def stop_consumer(self, consumer: Consumer, timeout: float) -> None:
        """End one consumer; handlers under way have ``timeout`` seconds, then their messages go back to the queue."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            self._consuming.remove(consumer)
            await consumer.stop(timeout)

    async def count_consumers(self, queue: str) -> int | None:
        """Count the consumers of a queue, of whatever process; None where that can't be known now."""
        protocol = self._consuming.protocol
        if protocol is None:
            return None
        with suppress(Closed):
            found = await count(protocol, [Queue(queue)])
            return found[queue][1] if queue in found else 0
        return None

    async def stop_consuming(self, timeout: float) -> None:
        """End all consumers; handlers under way have ``timeout`` seconds, then their messages go back to the queue."""
        self._stopping = True
        stopping = [Deferred.fromCoroutine(consumer.stop(timeout)) for consumer in self._consumers]
        for waiting in list(self._resting):
            waiting.cancel()
        await gatherResults(stopping)

    async def rest(self, waiting: Deferred[None]) -> None:
        """Wait, in a handler that has nothing under way.

        :raises CancelledError: the consumers stop; ``waiting`` is cancelled at once
        """
        if self._stopping:
            waiting.cancel()
        self._resting.add(waiting)
        try:
            await waiting
        finally:
            self._resting.discard(waiting)
        if self._stopping:
            # It was over only because another one was cancelled, which makes room for nobody.
            raise CancelledError()
