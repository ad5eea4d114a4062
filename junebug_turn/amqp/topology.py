"""Declaring the exchange and the queues that the daemon needs, and counting the messages in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from functools import partial
from itertools import chain
from operator import methodcaller
from typing import Any

from attrs import Factory, frozen
from twisted.internet.defer import Deferred, DeferredLock
from txamqp.client import ChannelClosed, Closed

from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.declaration import Declaring, Part, Step
from junebug_turn.amqp.permissions import PERMISSION, ask_to_write

EXCHANGE = "vumi"
AFTER_RETURN = 1.0  # seconds at least between declarations because a message came back


@frozen
class Queue:
    """A durable queue.

    :ivar bound: whether it is bound to the exchange, with its name as the routing key
    :ivar arguments: only for a queue of our own: they would be a 406 to the peers that declare it too
    :ivar fanout: whether it has an exchange of its own and of its name, through which a message gets into it with
        any routing key
    """

    name: str
    bound: bool = True
    arguments: Mapping[str, Any] = Factory(dict)
    fanout: bool = False


async def declare(protocol: AmqpProtocol, queues: Iterable[Queue]) -> None:
    """Declare the exchange, the queues and their bindings.

    One that exists with other properties is used as it is, and one that can't be declared stops no other:
    either is logged.

    :raises Closed: the connection is lost
    """
    await _declare(Declaring(protocol), queues)


class Topology:
    """The exchange and the queues that the daemon needs: declared when there is a connection, and again now and then.

    :param queues: all that are needed; they can change
    :ivar faults: what is not there and can't be declared, with the broker's reason, as of the last declaration
    """

    def __init__(self, queues: Collection[Queue] = ()) -> None:
        self.queues = queues
        self.faults: Mapping[str, str] = {}
        self._known: Mapping[str, str] = {}
        self._lock = DeferredLock()
        # Those that wait for a declaration that is under way; None where there is none.
        self._waiting: list[Deferred[None]] | None = None
        self._declared_on: AmqpProtocol | None = None
        self._declared_at = -AFTER_RETURN

    async def ensure(self, protocol: AmqpProtocol) -> None:
        """Declare them, unless that was done on a connection that lives: a broker that restarts ends all of them.

        :raises Closed: the connection is lost
        """
        while self._declared_on is None or self._declared_on.closed:
            if self._waiting is not None:
                waiting: Deferred[None] = Deferred()
                self._waiting.append(waiting)
                await waiting
                continue
            self._waiting = []
            try:
                await self._lock.run(lambda: Deferred.fromCoroutine(self.declare(protocol)))
                self._declared_on = protocol
            finally:
                # Not by the lock, where each would be called by the one before: there may be a thousand consumers.
                ready, self._waiting = self._waiting, None
                for waiting in ready:
                    waiting.callback(None)

    def forget(self) -> None:
        """Have ``ensure`` declare them again: one of them is gone."""
        self._declared_on = None

    async def declare(self, protocol: AmqpProtocol) -> None:
        """Declare them; a refusal is logged unless it was the same the last time.

        :raises Closed: the connection is lost
        """
        declaring = Declaring(protocol, self._known)
        await _declare(declaring, tuple(self.queues))
        self.faults, self._known = declaring.faults, declaring.refusals

    async def extend(self, protocol: AmqpProtocol, queues: Collection[Queue]) -> None:
        """Declare some of them; a refusal is logged unless it was the same the last time.

        :raises Closed: the connection is lost
        """
        await self._lock.acquire()
        try:
            declaring = Declaring(protocol, self._known)
            await _declare(declaring, queues)
        finally:
            self._lock.release()
        done = {part.what for part in chain(_EXCHANGE_PARTS, *map(_parts, queues))}
        self.faults = _without(self.faults, done) | declaring.faults
        self._known = _without(self._known, done) | declaring.refusals

    def forget_faults(self) -> None:
        """Forget the faults of queues that are not needed any more."""
        if self._known:
            parts = {part.what for part in chain(_EXCHANGE_PARTS, *map(_parts, self.queues))}
            self.faults = _without(self.faults, self.faults.keys() - parts)
            self._known = _without(self._known, self._known.keys() - parts)

    def returned(self, protocol: AmqpProtocol, routing_key: str | bytes) -> None:
        """Declare them again where a message for one of them came back: it, or its binding, was deleted under us."""
        now = protocol.clock.seconds()
        if protocol.blocked or now - self._declared_at < AFTER_RETURN:
            return
        if any(queue.name == routing_key for queue in self.queues):
            self._declared_at = now
            declaring = Deferred.fromCoroutine(self.declare(protocol))
            declaring.addErrback(lambda failure: failure.trap(Closed) and None)


def _without(found: Mapping[str, str], keys: Set[str]) -> dict[str, str]:
    return {what: why for what, why in found.items() if what not in keys}


async def count(protocol: AmqpProtocol, queues: Iterable[Queue]) -> dict[str, tuple[int, int]]:
    """Count, for each queue that is there, the messages that wait in it, and its consumers.

    :raises Closed: the connection was closed
    """
    counts = {}

    def note(queue: Queue, ok: Any) -> None:
        counts[queue.name] = ok.message_count, ok.consumer_count

    async def missing(refusal: ChannelClosed) -> None:
        pass

    counting = Declaring(protocol)
    look = partial(methodcaller, "queue_declare", passive=True)
    await counting.each([Step(look(queue=queue.name), partial(note, queue), missing) for queue in queues])
    await counting.done()
    return counts


def exchange_part(name: str, kind: str) -> Part:
    declare = methodcaller("exchange_declare", exchange=name, type=kind, durable=True)
    look = methodcaller("exchange_declare", exchange=name, type=kind, passive=True)
    return Part(f"exchange {name}", declare, look)


def queue_part(queue: Queue) -> Part:
    declare = methodcaller("queue_declare", queue=queue.name, durable=True, arguments=queue.arguments)
    look = methodcaller("queue_declare", queue=queue.name, passive=True)
    return Part(f"queue {queue.name}", declare, look)


def binding_part(queue: Queue) -> Part:
    exchange, key = (queue.name, "") if queue.fanout else (EXCHANGE, queue.name)
    bind = methodcaller("queue_bind", queue=queue.name, exchange=exchange, routing_key=key)
    return Part(f"binding of the queue {queue.name} to the exchange {exchange}", bind)


def write_part(exchange: str) -> Part:
    return Part(f"{PERMISSION}{exchange}", ask_to_write(exchange, EXCHANGE))


_EXCHANGE_PARTS = (exchange_part(EXCHANGE, "direct"), write_part(EXCHANGE))


def _parts(queue: Queue) -> list[Part]:
    """Return what a queue needs beside the exchange, in the order in which it is declared."""
    parts = [exchange_part(queue.name, "fanout"), write_part(queue.name)] if queue.fanout else []
    parts.append(queue_part(queue))
    if queue.bound or queue.fanout:
        parts.append(binding_part(queue))
    return parts


async def _declare(declaring: Declaring, queues: Iterable[Queue]) -> None:
    await declaring.side_by_side(_EXCHANGE_PARTS, [_parts(queue) for queue in queues])
