"""Declarations at the broker: calls in their order, many at once, of which each may be refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from txamqp.client import ChannelClosed

from junebug_turn.amqp.channel import Channel, describe, reply_code
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.permissions import PERMISSION

ACCESS_REFUSED = 403
PRECONDITION_FAILED = 406
_QUEUE_LIMIT = "queue limit"  # in the reply text for a virtual host, or a cluster, that is full

AT_ONCE = 100  # calls that are made without waiting for each
SIDE_BY_SIDE = 8
"""Channels that declare side by side, with ``AT_ONCE`` calls together: the broker makes the queues of one channel one
after the other, on one processor."""

UNANSWERED = 10
"""Declarations that are made at once from which on the broker answers only the last: each answer takes time."""

_log = Logger()
_Call: TypeAlias = Callable[[Channel], Any]


@frozen
class Part:
    """An exchange, a queue or a binding: its name for the log, and the calls that declare it and look for it.

    :ivar unanswered: declares it, and the broker answers only by closing the channel
    """

    what: str
    declare: _Call
    look: _Call | None = None
    unanswered: _Call | None = None


@frozen
class Step:
    """A call, with what follows when the broker does it, and when it refuses it."""

    call: _Call
    done: Callable[[Any], None]
    refused: Callable[[ChannelClosed], Awaitable[None]]
    unanswered: _Call | None = None


class Declaring:
    """Declarations on a channel of their own, as each refusal closes it.

    :param known: the refusals of the last time, which are not logged again
    :param at_once: how many calls are made without waiting for each
    """

    def __init__(
        self, protocol: AmqpProtocol, known: Mapping[str, str] | None = None, at_once: int = AT_ONCE
    ) -> None:
        self._protocol = protocol
        self._channel: Channel | None = None
        self._known = known or {}
        self._at_once = at_once
        self.refusals: dict[str, str] = {}
        self.faults: dict[str, str] = {}

    async def all(self, *series: Iterable[Part]) -> None:
        """Declare series of parts in their order; a refusal is logged, and stops none of the others."""
        for parts in series:
            await self.each([self._step(part) for part in parts])
        await self.done()

    def _step(self, part: Part) -> Step:
        unanswered = None if part.what in self._known else part.unanswered
        return Step(part.declare, lambda ok: None, partial(self._refused, part), unanswered)

    async def side_by_side(self, first: Iterable[Part], groups: Sequence[Sequence[Part]]) -> None:
        """Declare the first parts, then groups of parts, each in its order; many groups over several channels.

        :raises Closed: the connection is lost
        """
        number = min(SIDE_BY_SIDE, self._protocol.free_channels, -(-len(groups) // AT_ONCE))
        if number <= 1:
            await self.all(first, chain(*groups))
            return
        await self.all(first)
        others = [Declaring(self._protocol, self._known, AT_ONCE // number) for _ in range(number)]
        working = [
            Deferred.fromCoroutine(each.all(chain(*groups[start::number])))
            for start, each in enumerate(others)
        ]
        ends: Any = await DeferredList(working, consumeErrors=True)
        for each, (done, failure) in zip(others, ends, strict=True):
            if not done:
                failure.raiseException()
            self.refusals |= each.refusals
            self.faults |= each.faults

    async def each(self, steps: Sequence[Step]) -> None:
        """Make calls in their order, many at once: one after the other, each would take a round trip."""
        done = 0
        while done < len(steps):
            batch = steps[done : done + self._at_once]
            if await self._unanswered(batch):
                done += len(batch)
                continue
            channel = await self._open()
            answers = await self._protocol.calls([step.call(channel) for step in batch])
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

    async def _unanswered(self, batch: Sequence[Step]) -> bool:
        """Make many calls of which the broker answers the last one; returns whether it has done all of them.

        It does those of one channel in their order, and ignores all that follow a refused one.
        """
        calls = [step.unanswered for step in batch if step.unanswered is not None]
        if len(calls) < max(len(batch), UNANSWERED):
            return False
        channel = await self._open()
        working = [*(call(channel) for call in calls[:-1]), batch[-1].call(channel)]
        for answered, answer in await self._protocol.calls(working):
            if not answered and not answer.check(ChannelClosed):
                answer.raiseException()
        return not channel.closed

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
