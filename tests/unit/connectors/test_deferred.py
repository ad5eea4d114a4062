"""Deferred messages are returned when a destination answers again: when, and how often."""

from __future__ import annotations

import gc
from itertools import accumulate

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from junebug_turn.connectors.deferred import BURST, INTERVAL, MAX_PAUSE, PAUSES, RATE, DeferredMessages


class Bench:
    """Deferred messages, and the returns of them.

    :ivar began: when each return began
    :ivar counts: how many messages the next ones return; None: it fails
    :ivar ends: of returns that are under way
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.began: list[float] = []
        self.count: int | None = 0
        self.end: Deferred[None] | None = None
        self.deferred = DeferredMessages(self.clock, self.dead_letter)

    async def dead_letter(self, queue: str) -> int | None:
        assert queue == "junebug-turn.deferred"
        self.began.append(self.clock.seconds())
        if self.end is not None:
            await self.end
        return self.count

    def start(self) -> None:
        """Start, and be past the first return."""
        self.deferred.start()
        self.advance(300)
        self.began.clear()

    def recovered(self) -> None:
        self.deferred.recovered()
        self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(seconds / 0.5))


def test_a_recovery() -> None:
    """When a destination answers, everything that is deferred is under way at once, and what finds no place then a
    little later, however long the others take."""
    bench = Bench()
    bench.start()
    bench.advance(1000)
    assert bench.began == []
    begin = bench.clock.seconds()
    bench.recovered()
    assert bench.began == [begin]
    bench.advance(1000)
    assert bench.began == list(accumulate(PAUSES, initial=begin))


def test_another_recovery() -> None:
    """A destination that answers while the next return is far away has its own at once."""
    bench = Bench()
    bench.start()
    bench.recovered()
    bench.advance(sum(PAUSES[:-1]) + 2 * INTERVAL)
    bench.began.clear()
    begin = bench.clock.seconds()
    bench.recovered()
    assert bench.began == [begin]
    bench.advance(1000)
    assert bench.began == list(accumulate(PAUSES, initial=begin))


def test_at_the_start() -> None:
    """What a former process deferred is returned once: which destinations are down is not known any more."""
    bench = Bench()
    bench.deferred.recovered()
    bench.advance(20)
    assert bench.began == []
    bench.deferred.start()
    bench.advance(8)
    assert bench.began == [20 + INTERVAL]


def test_several_recoveries() -> None:
    """Destinations that recover within a few seconds have their returns together, also where they do so while one is
    under way."""
    bench = Bench()
    bench.start()
    bench.end = Deferred()
    begin = bench.clock.seconds()
    for _ in range(4):
        bench.recovered()
        bench.advance(1)
    assert bench.began == [begin]
    bench.end.callback(None)
    bench.deferred.recovered()
    bench.advance(300)
    assert bench.began == [begin, *accumulate(PAUSES, initial=begin + INTERVAL)]


def test_a_destination_that_comes_and_goes() -> None:
    """Some returns follow each other closely, however many messages there are; but where destinations come and go all
    the time, the pauses grow, up to a minute, so that few messages a second go round in the broker."""
    bench = Bench()
    bench.start()
    bench.count = 18_000
    begin = bench.clock.seconds()
    for _ in range(3600):
        bench.deferred.recovered()
        bench.advance(1)
    pauses = [later - first for first, later in zip(bench.began, bench.began[1:], strict=False)]
    assert pauses[:4] == [INTERVAL] * 4
    assert INTERVAL < max(pauses) <= MAX_PAUSE
    moved = len(bench.began) * bench.count
    assert moved <= BURST + 2 * bench.count + RATE * (bench.clock.seconds() - begin)
    bench.count = 10**7
    bench.began.clear()
    bench.advance(MAX_PAUSE)
    bench.deferred.recovered()
    bench.advance(2 * MAX_PAUSE)
    bench.deferred.recovered()
    bench.advance(1)
    assert len(bench.began) == 3


def test_no_broker() -> None:
    """A return that fails, since the broker is away, is made later."""
    bench = Bench()
    bench.start()
    bench.count = None
    begin = bench.clock.seconds()
    bench.recovered()
    bench.advance(INTERVAL + 1)
    bench.count = 1
    bench.advance(300)
    assert bench.began == [begin, begin + INTERVAL, *accumulate(PAUSES, initial=begin + 2 * INTERVAL)]


def test_a_return_that_breaks() -> None:
    """A return that ends with a fault of ours stops none of those after later answers."""
    bench = Bench()
    bench.start()
    bench.end = Deferred()
    bench.recovered()
    with capturedLogs():
        bench.end.errback(RuntimeError("a fault"))
        gc.collect()
    bench.end = None
    bench.advance(INTERVAL)
    bench.began.clear()
    begin = bench.clock.seconds()
    bench.recovered()
    assert bench.began == [begin]


def test_stop() -> None:
    """When the daemon stops nothing more is returned."""
    bench = Bench()
    bench.start()
    for _ in range(2):
        bench.deferred.recovered()
        bench.advance(1)
    bench.deferred.stop()
    bench.deferred.recovered()
    bench.advance(60)
    assert (len(bench.began), bench.clock.getDelayedCalls()) == (1, [])
