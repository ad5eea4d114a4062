"""Batches of work for the thread of a SQLite file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

W = TypeVar("W")

TURNS = 2
"""Turns of the reactor for which a batch is gathered."""


class Batches(Generic[W]):
    """Gathers work for a few turns of the reactor, and has the thread do it in one visit.

    A visit costs several times as much as the work in it: Python's lock goes to and fro, and while the thread waits
    for it each system call of the reactor wakes it in vain.  A turn of the reactor takes longer the more there is to
    do; so batches grow with the load, and without load no work waits.

    :param pool: with one thread
    :param timeout: seconds since the first work of a batch was added, after which the works in it fail with Twisted's
        ``TimeoutError``; a batch that the thread has not begun then is withdrawn
    :param visit: does a batch, in the thread, with a cursor; its results are in the order of the batch, a ``Failure``
        among them is that work's own, and an exception is the failure of all
    """

    def __init__(
        self, reactor: Any, pool: ConnectionPool, timeout: float, visit: Callable[[Any, list[W]], list[Any]]
    ) -> None:
        self._reactor = reactor
        self._pool = pool
        self._timeout = timeout
        self._visit = visit
        self._next: dict[Deferred[Any], W] = {}
        self._timer: Any = None
        self._running: Deferred[None] | None = None

    def add(self, work: W) -> Deferred[Any]:
        """Do ``work`` in the next batch, in the order of the calls; cancelling withdraws work that was not begun."""
        if self._timer is None:
            # One timer for the batch: one for each work would cost as much as the rest of this method.
            self._timer = self._reactor.callLater(self._timeout, self._late, self._next)
        waiting: Deferred[Any] = Deferred(self._withdraw)
        self._next[waiting] = work
        if self._running is None:
            self._running = Deferred.fromCoroutine(self._run())
        return waiting

    def _withdraw(self, waiting: Deferred[Any]) -> None:
        self._next.pop(waiting, None)

    def _late(self, batch: dict[Deferred[Any], W]) -> None:
        if batch is self._next:
            self._take()
        for waiting in batch:
            if not waiting.called:
                waiting.errback(TimeoutError(self._timeout, "Deferred"))

    def _take(self) -> tuple[dict[Deferred[Any], W], Any]:
        """Return the gathered batch and its timer, and begin the next batch."""
        batch, timer, self._next, self._timer = self._next, self._timer, {}, None
        return batch, timer

    async def _run(self) -> None:
        while self._timer is not None:
            for _ in range(TURNS):
                await deferLater(self._reactor, 0)
            batch, timer = self._take()
            if batch:
                await self._do(batch)
            if timer is not None and timer.active():
                timer.cancel()
        self._running = None

    async def _do(self, batch: dict[Deferred[Any], W]) -> None:
        try:
            results = await self._pool.runInteraction(self._visit, list(batch.values()))
        except Exception as fault:
            # Each work gets a Failure of its own: handling one empties it.
            results = [Failure(fault) for _ in batch]
        for waiting, result in zip(batch, results, strict=True):
            # A work that was cancelled, or was late, after its batch had begun has been called already.
            if not waiting.called:
                # A Failure as the result goes to the errbacks.
                waiting.callback(result)

    async def stop(self) -> None:
        """Wait until all work that was added is done, and close the pool."""
        while self._running is not None:
            done: Deferred[None] = Deferred()
            self._running.chainDeferred(done)
            await done
        self._pool.close()
