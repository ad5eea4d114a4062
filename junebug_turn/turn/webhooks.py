"""Webhooks that come again: which of them is the same one, and which a new message with the same words."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

MAX_REMEMBERED = 10_000

_T = TypeVar("_T")


class Webhooks(Generic[_T]):
    """Runs the work of each webhook once, also when the webhook comes again byte for byte.

    Turn sends a webhook again when it got no answer in time.  Whoever comes while the work runs gets its result;
    so does, for ``window`` seconds, whoever comes after all earlier requests went away without an answer.  Once
    an answer was written, the same bytes are a new message: a menu shown twice is ordinary.  What failed is
    forgotten at once.

    :param window: in seconds; with 0 every webhook is a new one, and its work is cancelled with its request
    :param max_remembered: how many unanswered results are kept; the oldest go first
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, window: float, *, max_remembered: int = MAX_REMEMBERED) -> None:
        self._clock = clock
        self._window = window
        self._max_remembered = max_remembered
        self._running: dict[bytes, list[Deferred[_T]]] = {}
        self._unanswered: OrderedDict[bytes, tuple[float, _T]] = OrderedDict()

    @staticmethod
    def key(body: bytes) -> bytes:
        """What a webhook is known by."""
        return sha256(body).digest()

    def run(self, key: bytes, start: Callable[[], Deferred[_T]]) -> Deferred[_T]:
        """The result for one request: that of ``start()``, unless the webhook is known.

        Cancelling it ends the request's wait, not the work.
        """
        if not self._window:
            return start()
        self._forget_expired()
        if key in self._unanswered:
            return succeed(self._unanswered[key][1])
        waiting: Deferred[_T] = Deferred()
        if key in self._running:
            self._running[key].append(waiting)
        else:
            self._running[key] = [waiting]
            start().addBoth(self._done, key)
        return waiting

    def answered(self, key: bytes) -> None:
        """A request's answer was written."""
        self._unanswered.pop(key, None)

    def _done(self, result: _T | Failure, key: bytes) -> None:
        requests = [waiting for waiting in self._running.pop(key) if not waiting.called]
        if not isinstance(result, Failure):
            self._unanswered[key] = (self._clock.seconds() + self._window, result)
            if len(self._unanswered) > self._max_remembered:
                self._unanswered.popitem(last=False)
        elif not requests:
            self.log.warn(
                "a webhook whose request had gone failed: {error}", error=type(result.value).__name__
            )
        for waiting in requests:
            waiting.callback(result)

    def _forget_expired(self) -> None:
        now = self._clock.seconds()
        while self._unanswered and next(iter(self._unanswered.values()))[0] <= now:
            self._unanswered.popitem(last=False)
