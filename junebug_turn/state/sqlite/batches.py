"""Work for a thread that has a SQLite file, handed to it in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

W = TypeVar("W")

TURNS = 2
"""Turns of the reactor in which a batch is gathered."""


class Batches(Generic[W]):
    """What is asked for within a few turns of the reactor is done in one visit of the thread.

    A visit costs several times what the work in it costs: Python's lock goes to and fro, and while the thread waits
    for it each system call of the reactor wakes it in vain.  A turn takes no time while there is little to do, and
    the longer the more there is; so batches grow with the load, and without load nothing waits.

    :param pool: with one thread
    :param timeout: seconds from when a batch is begun to be gathered, after which what is in it fails with Twisted's
        ``TimeoutError``; what the thread has not begun then is withdrawn
    :param visit: does a batch, in the thread, with a cursor; its results are in the order of the batch, one that is a
        ``Failure`` is that work's own, and an exception is the failure of all
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
        """Have ``work`` done in the next batch, in the order of the calls; cancelling withdraws what was not begun."""
        if self._timer is None:
            # One for the batch: one for each work would cost as much as the rest of this.
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
        """What was gathered, and its timer."""
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
            # Each gets a failure of its own: one that is handled is emptied.
            results = [Failure(fault) for _ in batch]
        for waiting, result in zip(batch, results, strict=True):
            # One that was cancelled, or was late, after its batch had begun has been called already.
            if not waiting.called:
                # A Failure goes to the errbacks.
                waiting.callback(result)

    async def stop(self) -> None:
        """Wait until all that was asked for is done, and close the pool."""
        while self._running is not None:
            done: Deferred[None] = Deferred()
            self._running.chainDeferred(done)
            await done
        self._pool.close()
