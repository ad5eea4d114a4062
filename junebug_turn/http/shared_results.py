"""Results of requests, shared by all processes that share a store, and known beyond a restart."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from junebug_turn.errors import CacheError, IdempotencyKeyReused
from junebug_turn.state.claims import Claim, Claims

CLAIM_TIME = 30.0
"""Seconds after which the claim of a process that has died is over."""

RENEW_INTERVAL = CLAIM_TIME / 3
"""Seconds between renewals of the claims whose work is under way."""

ANSWERED_TIME = 30.0
"""Seconds in which a repeat that waited at another process gets the result of a request that was answered."""

FLUSH_INTERVAL = 0.1
"""Seconds for which answered requests are gathered: writing each by itself costs a tenth of a webhook."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between looks at the claim of another process: twice as long each time."""


class SharedResults:
    """Results in a store.

    The work of a request claims its key in the store first.  Where another process has claimed it, the result is that
    of the other process.  A claim whose process died is over after ``CLAIM_TIME``, and the work is done again: nobody
    knows whether its message was sent.

    :param window: the seconds in which a result is known
    :param until_answered: whether it is known only until a client has it
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, claims: Claims, window: float, *, until_answered: bool) -> None:
        self._clock = clock
        self._claims = claims
        self._window = window
        self._until_answered = until_answered
        # By key: those whose work is under way, those whose results were returned, those that were answered.
        self._claimed: dict[bytes, Claim] = {}
        self._done: dict[bytes, Claim] = {}
        self._answered: dict[bytes, Claim] = {}
        self._renewing: IDelayedCall | None = None
        self._renewal: Deferred[None] = succeed(None)
        self._flushing: IDelayedCall | None = None
        claims.before_stop = self._finish

    async def run(
        self,
        key: bytes,
        content: bytes,
        work: Callable[[], Coroutine[Deferred[Any], Any, bytes]],
        on_repeat: Callable[[], None],
    ) -> bytes:
        """Return the result of ``work``, or that of another process for the same key.

        :param on_repeat: called where another process has claimed the key
        :raises IdempotencyKeyReused: it has claimed it for another content
        :raises CacheError: the store can't be asked now; no work was done
        """
        mine = Claim(uuid.uuid4().hex, content)
        other = await self._claim(key, mine, on_repeat)
        if other is not None and other.result is not None:
            self._done[key] = other
            return other.result
        self._claimed[key] = mine
        self._renew_later()
        try:
            result = await work()
        except Exception:
            # Not waited for: a repeat that comes meanwhile looks again.
            self._in_background(self._claims.remove(key, mine.owner))
            raise
        finally:
            del self._claimed[key]
        # It must not come to the store after the result.
        await self._renewal
        done = evolve(mine, result=result)
        if self._until_answered:
            self._done[key] = done
        else:
            await self._store(key, done)
        return result

    def answered(self, key: bytes, answered: bool) -> None:
        """Note whether a client has the result that ``run`` returned last."""
        done = self._done.pop(key, None)
        if done is None or not self._until_answered:
            return
        if answered:
            self._answered[key] = evolve(done, answered=True)
            if self._flushing is None:
                self._flushing = self._clock.callLater(FLUSH_INTERVAL, self._flush)
        else:
            self._in_background(self._store(key, done))

    async def _claim(self, key: bytes, mine: Claim, on_repeat: Callable[[], None]) -> Claim | None:
        """Claim the key, and return None; or return the claim of another process, once it has a result."""
        awaited, pause = "", FIRST_PAUSE
        if answered := self._answered.pop(key, None):
            await self._claims.update({key: answered}, ANSWERED_TIME)
        while True:
            try:
                other = await self._claims.claim(key, mine, CLAIM_TIME, awaited)
            except (CacheError, CancelledError):
                # The store may have it all the same.
                self._in_background(self._claims.remove(key, mine.owner))
                raise
            if other is None:
                return None
            if other.content != mine.content:
                raise IdempotencyKeyReused("this key was used for a request with another body")
            if not awaited:
                on_repeat()
            if other.result is not None:
                return other
            awaited = other.owner
            await deferLater(self._clock, pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _store(self, key: bytes, done: Claim) -> None:
        try:
            await self._claims.update({key: done}, self._window)
        except CacheError as error:
            self.log.warn(
                "The answer to a request was not stored: a repeat of it may be sent again: {error!s}",
                error=error,
            )

    def _renew_later(self) -> None:
        if self._renewing is None:
            self._renewing = self._clock.callLater(RENEW_INTERVAL, self._renew)

    def _renew(self) -> None:
        self._renewing = None
        if self._claimed:
            self._renewal = self._in_background(self._claims.update(self._claimed.copy(), CLAIM_TIME))
            self._renew_later()

    async def _finish(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
        if self._answered:
            await self._flush()

    def _flush(self) -> Deferred[None]:
        """Store which requests were answered."""
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._flushing = None
        answered = self._answered.copy()

        def written(_: None) -> None:
            for key, done in answered.items():
                if self._answered.get(key) is done:
                    del self._answered[key]

        return self._in_background(self._claims.update(answered, ANSWERED_TIME)).addCallback(written)

    def _in_background(self, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """Do what nobody waits for; the store's own warning says that it is away."""

        async def run() -> None:
            with suppress(CacheError, CancelledError):
                await work

        return Deferred.fromCoroutine(run()).addErrback(
            lambda failure: self.log.failure("a claim was not written", failure=failure)
        )
