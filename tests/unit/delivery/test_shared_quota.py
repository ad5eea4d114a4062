"""A quota that several processes keep to together: each is a pace, and the store counts their calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.http_headers import Headers

from junebug_turn.delivery.pacing import TURN_LIMIT, Pace
from junebug_turn.delivery.rate import DeliveryRate
from junebug_turn.delivery.shared_quota import ALONE
from junebug_turn.errors import CacheError
from junebug_turn.state.quota_slots import Slots, take
from tests.support.clocks import Wall
from tools.servers.quota import Quota

RATE = DeliveryRate(60, 60)


class Store:
    """A store of all processes, on the clock of the test.

    :ivar delay: seconds until it answers
    :ivar fault: what it raises, if it does
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.slots: dict[str, Slots] = {}
        self.asked = 0
        self.delay = 0.01
        self.fault: Exception | None = None

    async def take_calls(self, quota: str, calls: int, seconds: float, wanted: int) -> tuple[int, float]:
        self.asked += 1
        slots, taken, wait = take(self.slots.get(quota, {}), self.clock.seconds(), calls, seconds, wanted)
        if self.fault is None:
            self.slots[quota] = slots
        answered: Deferred[None] = Deferred()
        self.clock.callLater(self.delay, answered.callback, None)
        await answered
        if self.fault is not None:
            raise self.fault
        return taken, wait


class Response:
    def __init__(self, code: int) -> None:
        self.code = code
        self.headers = Headers()


@define
class Service:
    """A service with a quota, and processes that make calls to it.

    :ivar made: the times of the calls that were taken
    """

    clock: Clock
    store: Store
    rate: DeliveryRate
    quota: Quota
    paces: list[Pace]
    made: list[float] = field(factory=list)

    @classmethod
    def of(cls, processes: int, rate: DeliveryRate = RATE) -> Service:
        clock = Clock()
        clock.advance(1_000_000)
        store = Store(clock)
        paces = [Pace(clock, Wall(clock, 0), "http://turn:80") for _ in range(processes)]
        for pace in paces:
            pace.rate = rate
            pace.share(store, "http://turn/v1")
        return cls(clock, store, rate, Quota(rate.calls, rate.seconds), paces)

    def call(self, pace: Pace, latency: float = 0.3) -> None:
        """Make a call when its turn comes, and again after a 429."""

        def begin(_: Any = None) -> None:
            self.clock.callLater(latency / 2, arrive)

        def arrive() -> None:
            within, _ = self.quota.call(self.clock.seconds(), 0)
            if within:
                self.made.append(self.clock.seconds())
            self.clock.callLater(latency / 2, end, 200 if within else 429)

        def end(code: int) -> None:
            pace.end("inbound", Response(code))  # type: ignore[arg-type]
            if code == 429:
                self.call(pace, latency)

        turn = pace.enter("c", "inbound", self.clock.seconds() + TURN_LIMIT)
        if turn is None:
            begin()
        else:
            turn.addCallback(begin)

    def run(self, count: int, limit: float = 3600) -> float:
        """Let time go on until so many calls were taken; returns the seconds."""
        start = self.clock.seconds()
        while len(self.made) < count:
            self.clock.advance(0.05)
            assert self.clock.seconds() < start + limit
        return self.clock.seconds() - start


@pytest.fixture
def failures() -> Iterator[list[LogEvent]]:
    found: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            found.append(event)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_no_429(processes: int) -> None:
    """Processes that share a store keep to the quota together: no call is over it, and they use it up, but for 10 %."""
    service = Service.of(processes)
    for n in range(240):
        service.call(service.paces[n % processes])
    took = service.run(240)
    assert service.quota.refused == 0
    assert took < 3 * RATE.seconds * 1.1


def test_one_gets_all_of_it() -> None:
    """A process that is alone at work gets the whole quota, though others have been there."""
    service = Service.of(3)
    for pace in service.paces:
        service.call(pace)
    service.run(3)
    service.clock.pump([1.0] * 100)
    for _ in range(60):
        service.call(service.paces[0])
    assert service.run(63) < 10
    assert service.quota.refused == 0


def test_few_questions() -> None:
    """Where the quota is large, calls are taken by many at a time; 60 in 60 s are taken one by one."""
    service = Service.of(2, DeliveryRate(6000, 60))
    for n in range(600):
        service.call(service.paces[n % 2])
    service.run(600)
    assert service.quota.refused == 0
    assert service.store.asked < 60


@pytest.mark.parametrize("fault", [CacheError("away"), RuntimeError("a bug")])
def test_the_store_is_away(fault: Exception, failures: list[LogEvent]) -> None:
    """While the store fails each process keeps to the quota for itself, and nothing waits for the store; when it is
    back they share again."""
    service = Service.of(1)
    service.store.fault = fault
    for _ in range(90):
        service.call(service.paces[0])
    assert service.run(60) < 10
    assert service.run(90) < 62
    assert service.quota.refused == 0
    service.store.fault = None
    service.clock.pump([1.0] * int(ALONE + 120))
    asked = service.store.asked
    service.call(service.paces[0])
    service.run(91)
    assert service.store.asked == asked + 1
    assert bool(failures) == isinstance(fault, RuntimeError)


def test_a_slow_store() -> None:
    """A store that takes longer to answer than a call may wait holds up nothing for ever."""
    service = Service.of(2)
    service.store.delay = 1.5
    for n in range(10):
        service.call(service.paces[n % 2])
    assert service.run(10) < 20
