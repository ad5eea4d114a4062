"""Declaring the exchange and the queues that the daemon needs, and counting the messages in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from operator import methodcaller
from typing import Any

from attrs import Factory, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from txamqp.client import ChannelClosed, Closed

from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.declaration import Declaring, Part, Step
from junebug_turn.amqp.default_type import CLASSIC, QUORUM, default_type
from junebug_turn.amqp.permissions import PERMISSION, ask_to_write, fault

EXCHANGE = "vumi"

RETURN = "junebug-turn.return"
"""The exchange through which dead letters return to the queue whose name is their routing key.

The default exchange does the same, but with at-least-once dead-lettering it must not be: RabbitMQ keeps a dead letter
that has no queue, and with a few dozen of them it delivers no other one.  So those go to ``UNROUTABLE``.
"""

UNROUTABLE = "junebug-turn.unroutable"
"""The exchange to which dead letters go whose queue is gone."""

AFTER_RETURN = 1.0  # seconds at least between declarations because a message came back

MANY = 100
"""Queues that can wait: where there are more, they are declared after the consumers have begun."""

QUIET = 1.0
"""Seconds without another consumer that begins, before the queues that can wait are declared."""

TOGETHER = 50
"""Queues that can wait that are declared at once: a user of another one has to wait for these at most."""


@frozen
class Queue:
    """A durable queue.

    :ivar bound: whether it is bound to the exchange, with its name as the routing key
    :ivar returns: whether dead letters return into it: it is bound to ``RETURN`` in the same way
    :ivar arguments: only for a queue of our own: they would be a 406 to the peers that declare it too
    :ivar quorum_arguments: further ones of a quorum queue
    :ivar fanout: whether it has an exchange of its own and of its name, through which a message gets into it with
        any routing key
    :ivar can_wait: whether its user asks for it, with ``Broker.have``, before a message is put into it
    """

    name: str
    bound: bool = True
    returns: bool = False
    arguments: Mapping[str, Any] = Factory(dict)
    quorum_arguments: Mapping[str, Any] = Factory(dict)
    fanout: bool = False
    can_wait: bool = False

    def all_arguments(self, default_type: str = CLASSIC) -> dict[str, Any]:
        """Return its arguments in a virtual host with this default type."""
        is_quorum = self.arguments.get("x-queue-type", default_type) == QUORUM
        return {**self.arguments, **(self.quorum_arguments if is_quorum else {})}


async def declare(protocol: AmqpProtocol, queues: Iterable[Queue]) -> None:
    """Declare the exchange, the queues and their bindings.

    One that exists with other properties is used as it is, and one that can't be declared stops no other:
    either is logged.

    :raises Closed: the connection is lost
    """
    await _declare(Declaring(protocol), queues, CLASSIC)


class Topology:
    """The exchange and the queues that the daemon needs: declared when there is a connection, and again now and then.

    Where very many queues can wait, these are declared after the consumers have begun: a new queue takes the broker
    milliseconds.

    :param queues: all that are needed; they can change
    :ivar faults: what is not there and can't be declared, with the broker's reason, as of the last declaration
    :ivar waiting: the names of the queues that are to be declared yet
    """

    def __init__(self, queues: Collection[Queue] = ()) -> None:
        self.queues = queues
        self.faults: Mapping[str, str] = {}
        self.waiting: set[str] = set()
        self._begun = False
        self._quiet: IDelayedCall | None = None
        self._known: Mapping[str, str] = {}
        self._lock = DeferredLock()
        # The users that wait for a declaration that is under way; None where there is none.
        self._users: list[Deferred[None]] | None = None
        self._declared_on: AmqpProtocol | None = None
        # The virtual host's default type of queues, and the connection that told it.
        self._default_type = CLASSIC
        self._told_by: AmqpProtocol | None = None
        self._declared_at = -AFTER_RETURN

    async def ensure(self, protocol: AmqpProtocol) -> None:
        """Declare them, unless that was done on a connection that lives: a broker that restarts ends all of them.

        Those that can wait are left to ``complete`` the first time, where they are many.

        :raises Closed: the connection is lost
        """
        while self._declared_on is None or self._declared_on.closed:
            if self._users is not None:
                waiting: Deferred[None] = Deferred()
                self._users.append(waiting)
                await waiting
                continue
            self._users = []
            try:
                await self._lock.run(lambda: Deferred.fromCoroutine(self._begin(protocol)))
                self._declared_on = protocol
            finally:
                # Not by the lock, where each would be called by the one before: there may be a thousand consumers.
                ready, self._users = self._users, None
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
        await self._declare(protocol, declaring, tuple(self.queues))
        self.faults, self._known = declaring.faults, declaring.refusals
        self.waiting.clear()

    async def extend(self, protocol: AmqpProtocol, queues: Collection[Queue]) -> None:
        """Declare some of them; a refusal is logged unless it was the same the last time.

        :raises Closed: the connection is lost
        """
        await self._lock.run(lambda: Deferred.fromCoroutine(self._extend(protocol, queues)))

    def complete(self, protocol: AmqpProtocol) -> None:
        """Declare the queues that wait for that, as soon as no consumer has called this for a second."""
        if self._quiet is not None and self._quiet.active():
            self._quiet.reset(QUIET)
        elif self.waiting:
            self._quiet = protocol.clock.callLater(
                QUIET, lambda: Deferred.fromCoroutine(self._complete(protocol))
            )

    async def _begin(self, protocol: AmqpProtocol) -> None:
        can_wait = {queue.name for queue in self.queues if queue.can_wait}
        if self._begun or len(can_wait) <= MANY:
            await self.declare(protocol)
        else:
            await self._extend(protocol, [queue for queue in self.queues if not queue.can_wait])
            self.waiting = can_wait
        self._begun = True

    async def _complete(self, protocol: AmqpProtocol) -> None:
        with suppress(Closed):
            while some := list(islice((each for each in self.queues if each.name in self.waiting), TOGETHER)):
                await self.extend(protocol, some)

    async def _extend(self, protocol: AmqpProtocol, queues: Collection[Queue]) -> None:
        declaring = Declaring(protocol, self._known)
        await self._declare(protocol, declaring, queues)
        self.waiting.difference_update(queue.name for queue in queues)
        done = {part.what for part in chain(_FIRST_PARTS, *map(_parts, queues))}
        self.faults = _without(self.faults, done) | declaring.faults
        self._known = _without(self._known, done) | declaring.refusals

    async def _declare(self, protocol: AmqpProtocol, declaring: Declaring, queues: Collection[Queue]) -> None:
        told = self._told_by is not None and not self._told_by.closed
        if not told and (typed := [queue for queue in queues if queue.quorum_arguments]):
            # Those of the transports first: messages for them must not wait for the answer.
            await _declare(declaring, [queue for queue in queues if not queue.quorum_arguments], CLASSIC)
            self._default_type, self._told_by = await default_type(protocol), protocol
            queues = typed
        await _declare(declaring, queues, self._default_type)

    def faults_of(self, queues: Iterable[Queue]) -> list[str]:
        """Return the faults that concern these queues, in words, as of the last declaration."""
        whats = [part.what for part in chain.from_iterable(map(_parts, queues))]
        return [fault(what, self.faults[what]) for what in whats if what in self.faults]

    def forget_faults(self) -> None:
        """Forget the faults of queues that are not needed any more."""
        if self._known:
            parts = {part.what for part in chain(_FIRST_PARTS, *map(_parts, self.queues))}
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


def exchange_part(name: str, kind: str, arguments: Mapping[str, Any] | None = None) -> Part:
    declare = methodcaller(
        "exchange_declare", exchange=name, type=kind, durable=True, arguments=arguments or {}
    )
    look = methodcaller("exchange_declare", exchange=name, type=kind, passive=True)
    return Part(f"exchange {name}", declare, look)


def queue_part(queue: Queue, default_type: str = CLASSIC) -> Part:
    fields = {"queue": queue.name, "durable": True, "arguments": queue.all_arguments(default_type)}
    declare = methodcaller("queue_declare", **fields)
    look = methodcaller("queue_declare", queue=queue.name, passive=True)
    return Part(f"queue {queue.name}", declare, look, methodcaller("queue_declare", **fields, nowait=True))


def binding_part(queue: Queue, exchange: str, routing_key: str) -> Part:
    fields = {"queue": queue.name, "exchange": exchange, "routing_key": routing_key}
    return Part(
        f"binding of the queue {queue.name} to the exchange {exchange}",
        methodcaller("queue_bind", **fields),
        unanswered=methodcaller("queue_bind", **fields, nowait=True),
    )


def write_part(exchange: str) -> Part:
    return Part(f"{PERMISSION}{exchange}", ask_to_write(exchange, EXCHANGE))


EXCHANGE_PART = exchange_part(EXCHANGE, "direct")
RETURN_PART = exchange_part(RETURN, "direct", {"alternate-exchange": UNROUTABLE})
_FIRST_PARTS = (EXCHANGE_PART, write_part(EXCHANGE), RETURN_PART)


def _parts(queue: Queue, default_type: str = CLASSIC) -> list[Part]:
    """Return what a queue needs beside the exchange, in the order in which it is declared."""
    parts = [exchange_part(queue.name, "fanout"), write_part(queue.name)] if queue.fanout else []
    parts.append(queue_part(queue, default_type))
    if queue.fanout:
        parts.append(binding_part(queue, queue.name, ""))
    if queue.bound:
        parts.append(binding_part(queue, EXCHANGE, queue.name))
    if queue.returns:
        parts.append(binding_part(queue, RETURN, queue.name))
    return parts


async def _declare(declaring: Declaring, queues: Iterable[Queue], default_type: str) -> None:
    await declaring.side_by_side(_FIRST_PARTS, [_parts(queue, default_type) for queue in queues])
