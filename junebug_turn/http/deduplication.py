"""Work that is done once, also when it is asked for again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from attrs import define, frozen
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.errors import IdempotencyKeyReused

MAX_KEPT = 100_000
MAX_KEPT_BYTES = 64 * 1024 * 1024

WARN_INTERVAL = 60.0
"""Seconds between two warnings that results are forgotten early."""

# What a result costs beside its own bytes: key, content, three objects and their place in the mapping.
_OVERHEAD = 500

Start: TypeAlias = Callable[[], Deferred[bytes]]


@define(eq=False)
class _Running:
    content: bytes
    work: Deferred[bytes] | None
    waiting: list[Deferred[bytes]]
    withdraw: Callable[[], bool] | None


@frozen
class _Kept:
    content: bytes
    result: bytes
    until: float


class Once:
    """Runs the work of a key once.

    Whoever comes while the work runs gets its result; so does, for ``window`` seconds, whoever comes later.
    What failed is not kept: the next one starts anew.

    :param window: in seconds; with 0 every request is a new one, and its work is cancelled with it
    :param max_kept: how many results are kept at most; the oldest go first
    :param max_bytes: how many bytes they have at most
    :param on_repeat: called for each request that gets the result of another one's work
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        window: float,
        *,
        max_kept: int = MAX_KEPT,
        max_bytes: int = MAX_KEPT_BYTES,
        on_repeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_repeat = on_repeat
        self._clock = clock
        self._window = window
        self._max_kept = max_kept
        self._max_bytes = max_bytes
        self._running: dict[bytes, _Running] = {}
        # All live equally long: the oldest is the first to expire.
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._bytes = 0
        self._warned: float | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def run(
        self, key: bytes, start: Start, *, content: bytes = b"", withdraw: Callable[[], bool] | None = None
    ) -> Deferred[bytes]:
        """The result for one request: that of ``start()``, unless the key is known.

        Cancelling it ends the request's wait.  The work goes on, unless nobody waits for it any more and
        ``withdraw`` allows to cancel it.

        :param content: must be the same each time that the key comes
        :raises IdempotencyKeyReused: (in the Deferred) it is not
        """
        if not self._window:
            return start()
        self._forget_expired()
        known = self._running.get(key) or self._kept.get(key)
        if known is None:
            known = self._running[key] = _Running(content, None, [], withdraw)
            waiting = self._wait(known)
            known.work = start()
            known.work.addBoth(self._done, key)
            return waiting
        if known.content != content:
            return fail(IdempotencyKeyReused("this key was used for a request with another body"))
        self._on_repeat()
        return succeed(known.result) if isinstance(known, _Kept) else self._wait(known)

    def forget(self, key: bytes) -> None:
        """From now on the key is a new one."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= _size(kept)

    def _wait(self, running: _Running) -> Deferred[bytes]:
        def gone(waiting: Deferred[bytes]) -> None:
            running.waiting.remove(waiting)
            if not running.waiting and running.work and running.withdraw and running.withdraw():
                running.work.cancel()

        waiting: Deferred[bytes] = Deferred(gone)
        running.waiting.append(waiting)
        return waiting

    def _done(self, result: bytes | Failure, key: bytes) -> None:
        running = self._running.pop(key)
        waiting, running.waiting = running.waiting, []
        if not isinstance(result, Failure):
            self._keep(key, _Kept(running.content, result, self._clock.seconds() + self._window))
        elif not waiting and not result.check(CancelledError):
            self.log.warn("work whose requests had gone failed: {error}", error=type(result.value).__name__)
        for one in waiting:
            one.callback(result)

    def _keep(self, key: bytes, kept: _Kept) -> None:
        self._kept[key] = kept
        self._bytes += _size(kept)
        full = False
        while len(self._kept) > self._max_kept or self._bytes > self._max_bytes:
            self.forget(next(iter(self._kept)))
            full = True
        now = self._clock.seconds()
        if full and (self._warned is None or now - self._warned >= WARN_INTERVAL):
            self._warned = now
            self.log.warn(
                "Results are forgotten before their {window:g} s are over: {count} are kept, {size} bytes",
                window=self._window,
                count=len(self._kept),
                size=self._bytes,
            )

    def _forget_expired(self) -> None:
        now = self._clock.seconds()
        while self._kept:
            key = next(iter(self._kept))
            if self._kept[key].until > now:
                return
            self.forget(key)


def _size(kept: _Kept) -> int:
    return len(kept.result) + _OVERHEAD
