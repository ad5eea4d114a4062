"""A deliverer between a clock that the tests move and a receiver on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from attrs import define
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from junebug_turn.delivery.deliverer import Deliverer
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import MAX_RETRY_AFTER, RetryPolicy
from tests.support.clocks import Wall
from tools.servers.receiver import Receiver

reactor: Any = _reactor

BODY = b'{"content":"\xc3\xbc"}'
SUBJECT = {"connector": "c", "kind": "inbound", "message_id": "m"}
TIMEOUT = 600.0
"""Seconds of an attempt: more than any delay, so that the clock's calls can be told apart."""


@define
class Bench:
    """A deliverer whose delays are half their caps, its clock and wall clock, and a receiver."""

    _names = count()

    receiver: Receiver
    clock: Clock
    deliverer: Deliverer
    wall: Wall

    def start(self, url: str | None = None, **options: Any) -> Deferred[None]:
        """Start a delivery; of another message than all before, unless ``message_id`` names one.

        Its URL counts as configured, unless ``configured`` says that it is a client's.
        """
        destination = Destination.of(url or self.receiver.url("/path"), None)
        arguments: dict[str, Any] = {"timeout": TIMEOUT, "policy": RetryPolicy(), **SUBJECT}
        arguments |= {"message_id": f"another {next(self._names)}", "configured": True, **options}
        return Deferred.fromCoroutine(self.deliverer.deliver(destination, BODY, **arguments))

    async def delay(self) -> float:
        """Wait until an attempt has failed; the seconds until the next."""
        await self.receiver.until(lambda: self.delays(), "the end of an attempt")
        (delay,) = self.delays()
        return delay

    def delays(self) -> list[float]:
        """The seconds until each of the next attempts."""
        due = [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()]
        return [seconds for seconds in due if seconds <= MAX_RETRY_AFTER]

    async def run(self, delivery: Deferred[None]) -> list[float]:
        """Let the clock go on through every delay until ``delivery`` ends; the delays."""
        delays = []
        while True:
            await self.receiver.until(lambda: delivery.called or self.delays(), "an attempt's end")
            if delivery.called:
                await delivery
                return delays
            delays.append(await self.delay())
            self.clock.advance(delays[-1])


@asynccontextmanager
async def benched() -> AsyncIterator[Bench]:
    """A bench; at the end nothing of it may be left."""
    clock = Clock()
    clock.advance(1_000_000)
    receiver = Receiver(reactor)
    receiver.start()
    wall = Wall(clock, 0)
    deliverer = Deliverer(reactor, clock=clock, wall_clock=wall, rng=lambda: 0.5)
    bench = Bench(receiver, clock, deliverer, wall)
    yield bench
    await bench.deliverer.close()
    await receiver.stop()
    assert clock.getDelayedCalls() == []
