"""Ordering: jobs with the same key run one after another, jobs with different keys side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable

from attrs import Factory, define
from twisted.internet.defer import Deferred


@define(eq=False)
class _Jobs:
    waiting: deque[Deferred[None]] = Factory(deque)
    turn: Deferred[None] | None = None  # of the job that was let in last
    free: bool = False
    moving: bool = False


class Ordering:
    """Runs jobs with the same key one after another.  Memory is proportional to the keys with pending jobs.

    :param rest: waits for a job's turn; what it raises is raised instead of running the job
    """

    def __init__(self, rest: Callable[[Deferred[None]], Awaitable[None]]) -> None:
        self._rest = rest
        self._by_key: dict[Hashable, _Jobs] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    async def run(self, key: Hashable | None, job: Callable[[], Awaitable[None]]) -> None:
        """Run ``job`` when all that came before it with this key are over; at once where the key is None."""
        if key is None:
            await job()
            return
        jobs = self._by_key.get(key)
        if jobs is None:
            jobs = self._by_key[key] = _Jobs()
        else:
            turn: Deferred[None] = Deferred()
            jobs.waiting.append(turn)
            try:
                await self._rest(turn)
            except BaseException:
                if jobs.turn is turn:
                    self._leave(key, jobs)
                raise
        try:
            await job()
        finally:
            self._leave(key, jobs)

    def _leave(self, key: Hashable, jobs: _Jobs) -> None:
        """Start the next job.  A job that is over at once comes back here: a loop, where calls would pile up."""
        jobs.free = True
        if jobs.moving:
            return
        jobs.moving = True
        while jobs.free and jobs.waiting:
            turn = jobs.waiting.popleft()
            # One that was cancelled has left the queue in its own way.
            if not turn.called:
                jobs.free, jobs.turn = False, turn
                turn.callback(None)
        jobs.moving = False
        if jobs.free:
            del self._by_key[key]
