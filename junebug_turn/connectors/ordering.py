"""Lanes: work of the same key is done one after the other, work of different keys side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeAlias

from attrs import Factory, define
from twisted.internet.defer import Deferred

Rest: TypeAlias = Callable[[Deferred[None]], Awaitable[None]]


@define(eq=False)
class _Lane:
    waiting: deque[Deferred[None]] = Factory(deque)
    turn: Deferred[None] | None = None  # of the work that it is for
    free: bool = False
    moving: bool = False


class Lanes:
    """The lanes that have work; each costs the same, however many there are, and is gone with its last work.

    :param rest: how a turn is waited for; what it raises is raised instead of doing the work
    """

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._lanes: dict[Hashable, _Lane] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    async def run(self, key: Hashable | None, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` when all that came before it with this key is over; at once where the key is None."""
        if key is None:
            await work()
            return
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        else:
            turn: Deferred[None] = Deferred()
            lane.waiting.append(turn)
            try:
                await self._rest(turn)
            except BaseException:
                if lane.turn is turn:
                    self._leave(key, lane)
                raise
        try:
            await work()
        finally:
            self._leave(key, lane)

    def _leave(self, key: Hashable, lane: _Lane) -> None:
        """Let the next one in.  Work that is over at once comes back here: a loop, where calls would pile up."""
        lane.free = True
        if lane.moving:
            return
        lane.moving = True
        while lane.free and lane.waiting:
            turn = lane.waiting.popleft()
            # One that was cancelled has left the queue in its own way.
            if not turn.called:
                lane.free, lane.turn = False, turn
                turn.callback(None)
        lane.moving = False
        if lane.free:
            del self._lanes[key]
