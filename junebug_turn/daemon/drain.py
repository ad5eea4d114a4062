"""Drain: the time between the order to stop and the end of the listeners, in which all requests are served."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger


@define(eq=False)
class Drain:
    """Drain of the daemon: load balancers see that it is not ready, and send their requests elsewhere.

    :ivar delay: its seconds
    """

    delay: float
    _clock: IReactorTime
    _waiting: Deferred[None] | None = field(default=None, init=False)

    log = Logger()

    @property
    def under_way(self) -> bool:
        """Whether it has begun and is not over."""
        return self._waiting is not None

    async def wait(self) -> None:
        """Begin, and wait for the end."""
        if not self.delay:
            return
        self.log.info("draining: requests are served for {delay:g} s more", delay=self.delay)
        self._waiting = deferLater(self._clock, self.delay)
        try:
            await self._waiting
        except CancelledError:
            self.log.info("the drain was ended early")
        self._waiting = None

    def end(self) -> None:
        """End it now, if it is under way."""
        if self._waiting is not None:
            self._waiting.cancel()
