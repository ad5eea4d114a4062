"""Declaring the exchange and the queues that the daemon needs, and counting the messages in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import methodcaller
from typing import Any, TypeAlias

from attrs import Factory, frozen
from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.logger import Logger
from txamqp.client import ChannelClosed, Closed

from junebug_turn.amqp.channel import Channel, describe, reply_code
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.permissions import PERMISSION, ask_to_write

EXCHANGE = "vumi"
ACCESS_REFUSED = 403
PRECONDITION_FAILED = 406
_QUEUE_LIMIT = "queue limit"  # in the reply text for a virtual host, or a cluster, that is full
AFTER_RETURN = 1.0  # seconds at least between declarations because a message came back

AT_ONCE = 100  # calls that are made without waiting for each

_log = Logger()
_Call: TypeAlias = Callable[[Channel], Any]


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
    await Declaring(protocol).all(queues)


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
        await declaring.all(tuple(self.queues))
        self.faults, self._known = declaring.faults, declaring.refusals

    async def extend(self, protocol: AmqpProtocol, queues: Collection[Queue]) -> None:
        """Declare some of them; a refusal is logged unless it was the same the last time.

        :raises Closed: the connection is lost
        """
        await self._lock.acquire()
        try:
            declaring = Declaring(protocol, self._known)
            await declaring.all(queues)
        finally:
            self._lock.release()
        done = {part.what for part in _parts(queues)}
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

    def note(queue: Queue, ok: Any) -> None:
        counts[queue.name] = ok.message_count, ok.consumer_count

    async def missing(refusal: ChannelClosed) -> None:
        pass

    counting = Declaring(protocol)
    look = partial(methodcaller, "queue_declare", passive=True)
    await counting.each([Step(look(queue=queue.name), partial(note, queue), missing) for queue in queues])
    await counting.done()
    return counts


@frozen
class Part:
    """An exchange, a queue or a binding: its name for the log, and the calls that declare it and look for it."""

    what: str
    declare: _Call
    look: _Call | None = None


@frozen
class Step:
    """A call, with what follows when the broker does it, and when it refuses it."""

    call: _Call
    done: Callable[[Any], None]
    refused: Callable[[ChannelClosed], Awaitable[None]]


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


def _parts(queues: Iterable[Queue]) -> Iterator[Part]:
    yield from (exchange_part(EXCHANGE, "direct"), write_part(EXCHANGE))
    for queue in queues:
        if queue.fanout:
            yield from (exchange_part(queue.name, "fanout"), write_part(queue.name))
        yield queue_part(queue)
        if queue.bound or queue.fanout:
            yield binding_part(queue)


class Declaring:
    """Declarations on a channel of their own, as each refusal closes it."""

    def __init__(self, protocol: AmqpProtocol, known: Mapping[str, str] | None = None) -> None:
        self._protocol = protocol
        self._channel: Channel | None = None
        self._known = known or {}
        self.refusals: dict[str, str] = {}
        self.faults: dict[str, str] = {}

    async def all(self, queues: Iterable[Queue]) -> None:
        await self.each(
            [Step(part.declare, lambda ok: None, partial(self._refused, part)) for part in _parts(queues)]
        )
        await self.done()

    async def each(self, steps: Sequence[Step]) -> None:
        """Make calls in their order, many at once: one after the other, each would take a round trip."""
        done = 0
        while done < len(steps):
            channel = await self._open()
            batch = steps[done : done + AT_ONCE]
            asked = [Deferred.fromCoroutine(self._protocol.call(step.call(channel))) for step in batch]
            answers: Any = await DeferredList(asked, consumeErrors=True)
            for step, (answered, answer) in zip(batch, answers, strict=True):
                done += 1
                if answered:
                    step.done(answer)
                    continue
                if not answer.check(ChannelClosed):
                    answer.raiseException()
                await step.refused(answer.value)
                # The broker has ignored what came after it on this channel.
                break

    async def examine(self, part: Part) -> bool | None:
        """Tell whether a part is there and may be declared; None: it is not there, and nothing is made."""
        if part.look is None or not await self._is_there(part.look):
            return None
        return await self.may(part.declare)

    async def may(self, call: _Call) -> bool:
        """Make a call; returns whether the user may make it."""
        try:
            await self._protocol.call(call(await self._open()))
        except ChannelClosed as refusal:
            return reply_code(refusal) != ACCESS_REFUSED
        return True

    async def _refused(self, part: Part, refusal: ChannelClosed) -> None:
        """Log a refusal, which is a fault where the queue or exchange is not there either."""
        what, look = part.what, part.look
        permission = what.startswith(PERMISSION)
        if permission and reply_code(refusal) != ACCESS_REFUSED:
            return  # the exchange is not there, which is a fault of its own
        why = self.refusals[what] = describe(refusal)
        other = reply_code(refusal) == PRECONDITION_FAILED and _QUEUE_LIMIT not in why
        if permission or (not other and look is not None and not await self._is_there(look)):
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
        elif permission:
            _log.error("The {what} is missing: {why}", what=what, why=why)
        elif what in self.faults or look is None:
            _log.error("The {what} can't be declared: {why}", what=what, why=why)
        else:
            _log.warn("The {what} can't be declared, but is there, and is used: {why}", what=what, why=why)

    async def _is_there(self, look: _Call) -> bool:
        try:
            await self._protocol.call(look(await self._open()))
        except ChannelClosed:
            return False
        return True

    async def done(self) -> None:
        if self._channel is not None:
            await self._protocol.close_channel(self._channel)

    async def _open(self) -> Channel:
        if self._channel is None or self._channel.closed:
            self._channel = await self._protocol.open_channel()
        return self._channel
