"""Deduplication of repeated requests: the repeats get the result of the first one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from junebug_turn.errors import ApiUsageError, IdempotencyKeyReused
from junebug_turn.http.json import no_confirm, within
from junebug_turn.http.shared_results import SharedResults

IDEMPOTENCY_KEY = "Idempotency-Key"

IDEMPOTENCY_WINDOW = 24 * 3600.0
"""Seconds in which a request with the same ``Idempotency-Key`` is a repeat."""

MAX_KEY_LENGTH = 255

MAX_RESULTS = 100_000
MAX_BYTES = 64 * 1024 * 1024

WARN_INTERVAL = 60.0
"""Seconds between two warnings that results are forgotten early."""

# The memory of a result beside its own bytes: key, content, three objects and their place in the mapping.
_OVERHEAD = 500


class Publishing(Protocol):
    """The handle of a message on its way to the broker: see ``amqp.publisher.Publication``."""

    @property
    def handed_over(self) -> bool:
        """Whether the broker may have the message."""

    def withdraw(self) -> bool:
        """Take the message back, if it was not handed over."""


OnPublish: TypeAlias = Callable[[Publishing], None]
Start: TypeAlias = Callable[[OnPublish], Coroutine[Deferred[Any], Any, bytes]]
"""Starts the work of a request; it gives the handle of each message that it publishes to its argument."""


@define(eq=False)
class _Running:
    content: bytes
    withdrawn_unawaited: bool
    work: Deferred[bytes] | None = None
    timer: IDelayedCall | None = None
    overdue: bool = False
    waiting: list[Deferred[bytes]] = field(factory=list)
    published: list[Publishing] = field(factory=list)


@frozen
class _Stored:
    content: bytes
    result: bytes
    until: float


class Deduplication:
    """Deduplication of the requests of one API, by a key of each.

    The first request with a key starts the work.  A repeat that comes while the work runs, or up to ``window`` seconds
    after it, gets the same result.  A failure is not stored: the next request starts the work again.

    When the work's time is over its requests fail.  The work is cancelled then, unless a message of it was handed to
    the broker: that one may be sent, so the work goes on until its outcome is known, and a repeat waits for it again.

    :param window: in seconds; with 0 every request is a new one, and its work is cancelled with it
    :param timeout: the time of the work, and of a repeat that comes after it, in seconds
    :param max_results: the limit of stored results; the oldest go first
    :param max_bytes: the limit of their bytes together
    :param on_repeat: called for each repeat
    :param shared: the results that other processes share; this one stores none of its own then

    :ivar size: the memory of the stored results in bytes, about
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        window: float,
        timeout: float,
        *,
        max_results: int = MAX_RESULTS,
        max_bytes: int = MAX_BYTES,
        on_repeat: Callable[[], None] = lambda: None,
        shared: SharedResults | None = None,
    ) -> None:
        self._shared = shared
        self._on_repeat = on_repeat
        self._clock = clock
        self._window = window
        self._timeout = timeout
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._running: dict[bytes, _Running] = {}
        # All live equally long: the oldest is the first to expire.
        self._stored: OrderedDict[bytes, _Stored] = OrderedDict()
        self.size = 0
        self._warned: float | None = None

    def __len__(self) -> int:
        return len(self._stored)

    def run(
        self, key: bytes, start: Start, *, content: bytes = b"", withdraw_unawaited: bool = False
    ) -> Deferred[bytes]:
        """Return the result for one request: that of ``start``, unless the key is known.

        Cancelling the Deferred ends the request's wait.  The work goes on; with ``withdraw_unawaited`` a message that
        still waits for the broker is withdrawn when no request waits for it any more.

        :param content: must be the same for all requests with the key
        :raises IdempotencyKeyReused: (in the Deferred) it is not
        :raises AmqpConnectionError: (in the Deferred) the time is over
        :raises CacheError: (in the Deferred) the shared results can't be asked now
        """
        if not self._window:
            return within(self._timeout, self._clock, start(lambda _: None))
        self._forget_expired()
        known = self._running.get(key) or self._stored.get(key)
        if known is None:
            known = self._running[key] = _Running(content, withdraw_unawaited)
            waiting = self._wait(known)
            known.timer = self._clock.callLater(self._timeout, self._time_out, known)
            work = partial(start, known.published.append)
            shared = self._shared
            known.work = Deferred.fromCoroutine(
                work() if shared is None else shared.run(key, content, work, self._on_repeat)
            )
            known.work.addBoth(self._done, key)
            return waiting
        if known.content != content:
            return fail(IdempotencyKeyReused("this key was used for a request with another body"))
        self._on_repeat()
        return succeed(known.result) if isinstance(known, _Stored) else self._wait(known)

    def forget(self, key: bytes) -> None:
        """Forget the result of a key: the next request with it is a new one."""
        stored = self._stored.pop(key, None)
        if stored is not None:
            self.size -= _size(stored)

    def _wait(self, running: _Running) -> Deferred[bytes]:
        def gone(waiting: Deferred[bytes]) -> None:
            running.waiting.remove(waiting)
            if not running.waiting and running.withdrawn_unawaited:
                # What is not published yet goes on, so that a repeat gets its result.
                _withdraw(running)

        waiting: Deferred[bytes] = Deferred(gone)
        running.waiting.append(waiting)
        return within(self._timeout, self._clock, waiting) if running.overdue else waiting

    def _time_out(self, running: _Running) -> None:
        running.timer = None
        running.overdue = True
        waiting, running.waiting = running.waiting, []
        fault = no_confirm(self._timeout)
        if any(each.handed_over for each in running.published):
            _withdraw(running)
        elif running.work is not None:
            running.work.cancel()
        for one in waiting:
            one.errback(fault)

    def _done(self, result: bytes | Failure, key: bytes) -> None:
        running = self._running.pop(key)
        if running.timer is not None:
            running.timer.cancel()
        waiting, running.waiting = running.waiting, []
        if not isinstance(result, Failure) and self._shared is not None:
            self._shared.answered(key, bool(waiting))
        elif not isinstance(result, Failure):
            self._store(key, _Stored(running.content, result, self._clock.seconds() + self._window))
        elif not waiting and not result.check(CancelledError):
            self.log.warn("work whose requests had gone failed: {error}", error=type(result.value).__name__)
        for one in waiting:
            one.callback(result)

    def _store(self, key: bytes, stored: _Stored) -> None:
        self._stored[key] = stored
        self.size += _size(stored)
        full = False
        while len(self._stored) > self._max_results or self.size > self._max_bytes:
            self.forget(next(iter(self._stored)))
            full = True
        now = self._clock.seconds()
        if full and (self._warned is None or now - self._warned >= WARN_INTERVAL):
            self._warned = now
            self.log.warn(
                "Results are forgotten before their {window:g} s are over: {count} are stored, {size} bytes",
                window=self._window,
                count=len(self._stored),
                size=self.size,
            )

    def _forget_expired(self) -> None:
        now = self._clock.seconds()
        while self._stored:
            key = next(iter(self._stored))
            if self._stored[key].until > now:
                return
            self.forget(key)


def _withdraw(running: _Running) -> None:
    for each in running.published:
        each.withdraw()


def _size(stored: _Stored) -> int:
    return len(stored.result) + _OVERHEAD


def read_idempotency_key(headers: Sequence[bytes]) -> bytes | None:
    """Return the ``Idempotency-Key`` of a request; None for a request without one.

    :param headers: the values of all headers of that name
    :raises ApiUsageError: the key can't be used
    """
    if not headers:
        return None
    if len(headers) > 1:
        raise ApiUsageError(f"the request has more than one {IDEMPOTENCY_KEY} header")
    key = headers[0]
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not all(0x20 <= byte <= 0x7E for byte in key):
        raise ApiUsageError(f"{IDEMPOTENCY_KEY} must have 1 to {MAX_KEY_LENGTH} printable ASCII characters")
    return key
