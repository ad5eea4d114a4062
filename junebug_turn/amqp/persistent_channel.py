"""A channel that is kept open on a connection, and how long to wait between two attempts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from txamqp.client import Closed

from junebug_turn.amqp.channel import Channel, Listener, describe
from junebug_turn.amqp.connection import AmqpProtocol

MIN_DELAY, MAX_DELAY = 0.1, 10.0  # seconds between two attempts


def backoff(failures: int, rng: Callable[[], float]) -> float:
    """Seconds to wait after so many failures in a row: doubled each time, the upper half of it random."""
    return float(min(MAX_DELAY, MIN_DELAY * 2 ** min(failures, 10)) * (1 + rng()) / 2)


class Pauses:
    """The waits between attempts, as they follow each other."""

    def __init__(self, rng: Callable[[], float]) -> None:
        self._rng = rng
        self._failures = 0

    def after(self, lasted: float) -> float:
        """Seconds to wait after something that held for ``lasted`` seconds; what held long counts as a success."""
        if lasted > MAX_DELAY:
            self._failures = 0
        delay = backoff(self._failures, self._rng)
        self._failures += 1
        return delay


async def _close(protocol: AmqpProtocol, channel: Channel) -> None:
    try:
        await protocol.close_channel(channel)
    except Closed:
        pass


class KeptChannel(Listener, ABC):
    """A user with one channel, which is opened again when it alone is closed."""

    log = Logger()
    name: str

    def __init__(self, reactor: Any, rng: Callable[[], float]) -> None:
        self._reactor = reactor
        self._rng = rng
        self._over: Deferred[str] | None = None
        self.channel: Channel | None = None

    @abstractmethod
    async def open(self, protocol: AmqpProtocol) -> Channel:
        """A channel that is ready for use, with ``self`` as its listener.

        :raises Closed: it was closed meanwhile
        """

    def wanted(self) -> bool:
        """Whether there shall be a channel."""
        return True

    async def serve(self, protocol: AmqpProtocol) -> None:
        """Keep a channel open on ``protocol``."""
        pauses = Pauses(self._rng)
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
                    await _close(protocol, channel)
            if protocol.closed or not self.wanted():
                return
            delay = pauses.after(self._reactor.seconds() - since)
            self.log.warn(
                "The AMQP channel of {name} ended and is opened again in {delay:.1f} s: {why}",
                name=self.name,
                delay=delay,
                why=why,
            )
            await deferLater(self._reactor, delay)

    def opened(self) -> None:
        """The channel is there."""

    def closed(self, why: str) -> None:
        self.channel = None
        self._end(why)

    def _end(self, why: str) -> None:
        over, self._over = self._over, None
        if over is not None:
            over.callback(why)
