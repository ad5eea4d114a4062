"""Declaring the exchange and the queues that the daemon needs, and counting the messages in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import methodcaller
from typing import Any, TypeAlias

from attrs import Factory, frozen
from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.logger import Logger
from txamqp.client import ChannelClosed, Closed

from junebug_turn.amqp import frames
from junebug_turn.amqp.channel import Channel, describe, reply_code
from junebug_turn.amqp.connection import AmqpProtocol

EXCHANGE = "vumi"
ACCESS_REFUSED = 403
PRECONDITION_FAILED = 406
_QUEUE_LIMIT = "queue limit"  # in the reply text for a virtual host, or a cluster, that is full
AT_ONCE = 100  # calls that are made without waiting for each, where there are more than so many
AFTER_RETURN = 1.0  # seconds at least between declarations because a message came back

_NO_QUEUE = "junebug-turn.no-such-queue"

_log = Logger()
_Call: TypeAlias = Callable[[Channel], Any]


@frozen
class Queue:
    """A durable queue.

    :ivar bound: whether it is bound to the exchange, with its name as the routing key
    :ivar arguments: only for a queue of our own: they would be a 406 to the peers that declare it too
    """

    name: str
    bound: bool = True
    arguments: Mapping[str, Any] = Factory(dict)


async def declare(protocol: AmqpProtocol, queues: Iterable[Queue]) -> None:
    """Declare the exchange, the queues and their bindings.

    One that exists with other properties is used as it is, and one that can't be declared stops no other:
    either is logged.

    :raises Closed: the connection is lost
    """
    await _Declaring(protocol).all(queues)


class Topology:
    """The exchange and the queues that the daemon needs: declared once on each connection, and again now and then.

    :param queues: all that are needed; they can change
    :ivar faults: what is not there and can't be declared, with the broker's reason, as of the last declaration
    """

    def __init__(self, queues: Collection[Queue] = ()) -> None:
        self.queues = queues
        self.faults: Mapping[str, str] = {}
        self._known: Mapping[str, str] = {}
        self._lock = DeferredLock()
        self._declared_on: AmqpProtocol | None = None
        self._declared_at = -AFTER_RETURN

    async def ensure(self, protocol: AmqpProtocol) -> None:
        """Declare them, unless that was done on this connection.

        :raises Closed: the connection is lost
        """
        await self._lock.acquire()
        try:
            if self._declared_on is not protocol:
                await self.declare(protocol)
                self._declared_on = protocol
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Have ``ensure`` declare them again: one of them is gone."""
        self._declared_on = None

    async def declare(self, protocol: AmqpProtocol) -> None:
        """Declare them; a refusal is logged unless it was the same the last time.

        :raises Closed: the connection is lost
        """
        declaring = _Declaring(protocol, self._known)
        await declaring.all(list(self.queues))
        self.faults, self._known = declaring.faults, declaring.refusals

    async def extend(self, protocol: AmqpProtocol, queues: Collection[Queue]) -> None:
        """Declare some of them; a refusal is logged unless it was the same the last time.

        :raises Closed: the connection is lost
        """
        await self._lock.acquire()
        try:
            declaring = _Declaring(protocol, self._known)
            await declaring.all(queues)
        finally:
            self._lock.release()
        done = {what for queue in queues for what, *_ in _parts(queue)} | {_exchange()[0]}
        self.faults = _without(self.faults, done) | declaring.faults
        self._known = _without(self._known, done) | declaring.refusals

    def returned(self, protocol: AmqpProtocol, routing_key: str | bytes) -> None:
        """Declare them again where a message for one of them came back: it, or its binding, was deleted under us."""
        now = protocol.clock.seconds()
        if protocol.blocked or now - self._declared_at < AFTER_RETURN:
            return
        if any(queue.name == routing_key for queue in self.queues):
            self._declared_at = now
            declaring = Deferred.fromCoroutine(self.declare(protocol))
            declaring.addErrback(lambda failure: failure.trap(Closed) and None)


def _without(found: Mapping[str, str], keys: set[str]) -> dict[str, str]:
    return {what: why for what, why in found.items() if what not in keys}


async def count(protocol: AmqpProtocol, queues: Iterable[Queue]) -> dict[str, tuple[int, int]]:
    """Count, for each queue that is there, the messages that wait in it, and its consumers.

    :raises Closed: the connection was closed
    """
    counts = {}
    counting = _Declaring(protocol)
    queues = list(queues)
    for some in (queues[at : at + AT_ONCE] for at in range(0, len(queues), AT_ONCE)):
        for queue, found in zip(some, await counting.count(some), strict=True):
            if found is not None:
                counts[queue.name] = found
    await counting.done()
    return counts


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
    examining = _Declaring(protocol)
    parts = [_exchange(), *map(_queue, queues)]
    found = {part[0]: await examining.examine(*part) for part in parts}
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


def _exchange() -> tuple[str, _Call, _Call]:
    """Name the exchange, with the calls that declare it and look for it."""
    declare = methodcaller("exchange_declare", exchange=EXCHANGE, type="direct", durable=True)
    look = methodcaller("exchange_declare", exchange=EXCHANGE, type="direct", passive=True)
    return f"exchange {EXCHANGE}", declare, look


def _queue(queue: Queue) -> tuple[str, _Call, _Call]:
    """Name a queue, with the calls that declare it and look for it."""
    declare = methodcaller("queue_declare", queue=queue.name, durable=True, arguments=queue.arguments)
    look = methodcaller("queue_declare", queue=queue.name, passive=True)
    return f"queue {queue.name}", declare, look


def _parts(queue: Queue) -> list[tuple[str, _Call, _Call | None]]:
    """Name a queue and its binding, with their calls."""
    if not queue.bound:
        return [_queue(queue)]
    bind = methodcaller("queue_bind", queue=queue.name, exchange=EXCHANGE, routing_key=queue.name)
    return [_queue(queue), (f"binding of the queue {queue.name} to the exchange {EXCHANGE}", bind, None)]


class _Declaring:
    """Declarations on a channel of their own, as each refusal closes it."""

    def __init__(self, protocol: AmqpProtocol, known: Mapping[str, str] | None = None) -> None:
        self._protocol = protocol
        self._channel: Channel | None = None
        self._known = known or {}
        self.refusals: dict[str, str] = {}
        self.faults: dict[str, str] = {}

    async def all(self, queues: Iterable[Queue]) -> None:
        await self._declared(*_exchange())
        parts = [part for queue in queues for part in _parts(queue)]
        for some in (parts[at : at + AT_ONCE] for at in range(0, len(parts), AT_ONCE)):
            if len(parts) <= AT_ONCE or not await self._at_once([declare for _, declare, _ in some]):
                for part in some:
                    await self._declared(*part)
        await self.done()

    async def _at_once(self, calls: Iterable[_Call]) -> list[Any]:
        """Make many calls without waiting for each; returns their answers, or none where one was refused."""
        channel = await self._open()
        made = [Deferred.fromCoroutine(self._protocol.call(call(channel))) for call in calls]
        answers = await DeferredList(made, consumeErrors=True)
        if self._protocol.closed:
            raise Closed(self._protocol.ended)
        return [answer for _, answer in answers] if all(done for done, _ in answers) else []

    async def examine(self, what: str, declare: _Call, look: _Call) -> bool | None:
        """Tell whether ``what`` is there and may be declared; None: it is not there, and nothing is made."""
        if not await self._is_there(look):
            return None
        try:
            await self._protocol.call(declare(await self._open()))
        except ChannelClosed as refusal:
            return reply_code(refusal) != ACCESS_REFUSED
        return True

    async def _declared(self, what: str, declare: _Call, look: _Call | None = None) -> None:
        """Declare; a refusal is logged, and is a fault where ``look`` doesn't find the queue or exchange either."""
        try:
            await self._protocol.call(declare(await self._open()))
        except ChannelClosed as refusal:
            why = self.refusals[what] = describe(refusal)
            other = reply_code(refusal) == PRECONDITION_FAILED and _QUEUE_LIMIT not in why
            if not other and look is not None and not await self._is_there(look):
                self.faults[what] = why
            if self._known.get(what) == why:
                return
            if other:
                _log.warn(
                    "The {what} exists with other properties and is used as it is, until it is deleted and made "
                    "anew: {why}",
                    what=what,
                    why=why,
                )
            elif what in self.faults or look is None:
                _log.error("The {what} can't be declared: {why}", what=what, why=why)
            else:
                _log.warn(
                    "The {what} can't be declared, but is there, and is used: {why}", what=what, why=why
                )

    async def _is_there(self, look: _Call) -> bool:
        try:
            await self._protocol.call(look(await self._open()))
        except ChannelClosed:
            return False
        return True

    async def count(self, queues: Sequence[Queue]) -> list[tuple[int, int] | None]:
        """Count messages and consumers; None for a queue that is not there, which costs a round trip for each."""
        found = await self._at_once([_queue(queue)[2] for queue in queues])
        if not found and len(queues) > 1:
            return [(await self.count([queue]))[0] for queue in queues]
        return [(ok.message_count, ok.consumer_count) for ok in found] or [None]

    async def done(self) -> None:
        if self._channel is not None:
            await self._protocol.close_channel(self._channel)

    async def _open(self) -> Channel:
        if self._channel is None or self._channel.closed:
            self._channel = await self._protocol.open_channel()
        return self._channel
