"""A channel that is opened again when it is closed, and the delays between two attempts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from txamqp.client import Closed

from junebug_turn.amqp.channel import Channel, Listener, describe
from junebug_turn.amqp.connection import AmqpProtocol

MIN_DELAY, MAX_DELAY = 0.1, 10.0  # seconds between two attempts


def backoff(failures: int, rng: Callable[[], float]) -> float:
    """Compute the seconds to wait after so many failures in a row: doubled each time, the upper half random.

    Twisted's ``backoffPolicy`` adds the same jitter to a short delay and to a long one: test_back_off.
    """
    return float(min(MAX_DELAY, MIN_DELAY * 2 ** min(failures, 10)) * (1 + rng()) / 2)


class Backoff:
    """The delays between attempts, which grow until one holds long enough.

    ``ClientService`` forgets the failures at each login: test_a_connection_that_does_not_last.
    """

    def __init__(self, rng: Callable[[], float]) -> None:
        self._rng = rng
        self._failures = 0

    def after(self, lasted: float) -> float:
        """Compute the seconds to wait after an attempt that held for ``lasted`` seconds; a long one is a success."""
        if lasted > MAX_DELAY:
            self._failures = 0
        delay = backoff(self._failures, self._rng)
        self._failures += 1
        return delay


class PersistentChannel(Listener, ABC):
    """A user of a connection with one channel, which is opened again when it alone is closed.

    :ivar name: its name in the log
    :ivar channel: the channel while it is open
    """

    log = Logger()
    name: str

    def __init__(self, reactor: Any, rng: Callable[[], float]) -> None:
        self._reactor = reactor
        self._rng = rng
        self._over: Deferred[str] | None = None
        self.channel: Channel | None = None

    @abstractmethod
    async def open(self, protocol: AmqpProtocol) -> Channel:
        """Open a channel and prepare it for use, with ``self`` as its listener.

        :raises Closed: it was closed meanwhile
        """

    def wanted(self) -> bool:
        """Tell whether there shall be a channel."""
        return True

    async def serve(self, protocol: AmqpProtocol) -> None:
        """Keep a channel open on ``protocol``."""
        delays = Backoff(self._rng)
        while self.wanted() and not protocol.closed:
            since = self._reactor.seconds()
            over = self._over = Deferred()
            try:
                channel = await self.open(protocol)
            except Closed as fault:
                why = describe(fault)
            else:
                if not channel.closed:
                    self.channel = channel
                    self.opened()
                why = await over
                self.channel = None
                if not channel.closed and not protocol.closed:
                    channel.listener = Listener()
                    with suppress(Closed):
                        await protocol.close_channel(channel)
            if protocol.closed or not self.wanted():
                return
            delay = delays.after(self._reactor.seconds() - since)
            self.log.warn(
                "The AMQP channel of {name} ended and is opened again in {delay:.1f} s: {why}",
                name=self.name,
                delay=delay,
                why=why,
            )
            await deferLater(self._reactor, delay)

    def opened(self) -> None:
        """Use the channel, which is ready."""

    def closed(self, why: str) -> None:
        self.channel = None
        self._end(why)

    def _end(self, why: str) -> None:
        over, self._over = self._over, None
        if over is not None:
            over.callback(why)
