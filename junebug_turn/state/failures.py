"""Timeouts and failures of the stores outside of the process's memory."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from junebug_turn.errors import CacheError

T = TypeVar("T")


class FailureMonitor:
    """Bounds operations in time, turns their faults into ``CacheError``, and logs when a store fails and works again.

    :param name: the store's name for the log, without secrets
    :param timeout: seconds that an operation may take
    :param faults: the library's exceptions that are faults of the store and not of our code
    :param remedy: returns what an operator has to change for a fault to end; None where it can pass by itself
    :param refusal: the message of ``CacheError``, for a client

    :ivar fault: the fault of the last operation; None when it succeeded
    :ivar failures: how many operations failed
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        timeout: float,
        faults: tuple[type[Exception], ...],
        remedy: Callable[[Exception], str | None] = lambda _: None,
        *,
        refusal: str = "what has to be remembered of messages can't be stored or read now",
    ) -> None:
        self._clock = clock
        self._name = name
        self._timeout = timeout
        self._faults: tuple[type[Exception], ...] = (*faults, DeferredTimeout)
        self._remedy = remedy
        self._refusal = refusal
        self._advised: str | None = None
        self.fault: str | None = None
        self.failures = 0

    async def run(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """Return the result of ``work``, which is cancelled after the timeout.

        :raises CacheError: the store failed, or took too long
        """
        return await self.result(Deferred.fromCoroutine(work).addTimeout(self._timeout, self._clock))

    async def result(self, waiting: Deferred[T]) -> T:
        """Return the result of ``waiting``, which fails by itself with a ``TimeoutError`` after the timeout.

        :raises CacheError: the store failed, or took too long
        """
        try:
            result = await waiting
        except self._faults as error:
            self._failed(error)
            raise CacheError(self._refusal) from error
        if self.fault is not None:
            self.fault = self._advised = None
            self.log.info(
                "{name} works again ({failures} failures so far)", name=self._name, failures=self.failures
            )
        return result

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        timed_out = isinstance(error, DeferredTimeout)
        fault, remedy = f"no answer within {self._timeout:g} s" if timed_out else _line(error), None
        if not timed_out and (remedy := self._remedy(error)):
            fault = f"{fault}; {remedy}"
        # Once, and again when it turns out that somebody has to do something.
        if self.fault is None or remedy not in (None, self._advised):
            self.log.warn("{name} fails: {fault}", name=self._name, fault=fault)
        self.fault, self._advised = fault, remedy or self._advised


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text or type(error).__name__
