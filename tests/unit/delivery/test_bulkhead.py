"""The bulkhead of clients' URLs, on a clock that the tests move."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater

from junebug_turn.delivery.bulkhead import (
    CLIENT_PATIENCE,
    MAX_KNOWN,
    STILL,
    TICK,
    Bulkhead,
    BulkheadFull,
    Bulkheads,
    Place,
    Standing,
)
from tests.unit.delivery.test_circuit import results

LIMIT = 4
ANSWERS, UNKNOWN, FAILS = Standing


class Side:
    """A bulkhead with its clock, and the deliveries that are under way."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.bulkhead = Bulkhead(self.clock, LIMIT)
        self._places: list[tuple[str, Place]] = []

    def enter(self, origin: str = "http://a:80") -> list[Any]:
        """Its only item is the origin's standing, or the exception; empty while it waits."""

        def entered(place: Place) -> Standing:
            self._places.append((origin, place))
            return place.standing

        return results(Deferred.fromCoroutine(self.bulkhead.enter(origin)).addCallback(entered))

    def leave(self, origin: str, standing: Standing, *, answered: bool) -> None:
        """Give such a place back."""
        each = next(each for each in self._places if (each[0], each[1].standing) == (origin, standing))
        self._places.remove(each)
        self.bulkhead.leave(*each, answered=answered)

    def let_go(self, ticks: int) -> None:
        """Let time go."""
        for _ in range(ticks):
            self.clock.advance(TICK)

    def prove(self, origin: str = "http://a:80") -> None:
        """Have an origin answer."""
        (standing,) = self.enter(origin)
        self.leave(origin, standing, answered=True)


def full(entered: list[Any]) -> bool:
    return len(entered) == 1 and isinstance(entered[0], BulkheadFull)


def test_half_of_the_places() -> None:
    """No more deliveries are under way than the limit; one more waits until another one ends, in its order."""
    side = Side()
    side.prove()
    assert [side.enter() for _ in range(LIMIT)] == [[ANSWERS]] * LIMIT
    first, second = side.enter(), side.enter()
    assert (first, second) == ([], [])
    side.leave("http://a:80", ANSWERS, answered=True)
    assert (first, second) == ([ANSWERS], [])


def test_waits_outside() -> None:
    """A delivery waits for a place for 5 s at most."""
    side = Side()
    side.prove()
    for _ in range(LIMIT):
        side.enter()
    waiting = side.enter()
    side.let_go(round(CLIENT_PATIENCE / TICK) - 1)
    assert waiting == []
    side.let_go(1)
    assert full(waiting)
    side.leave("http://a:80", ANSWERS, answered=True)
    assert side.clock.getDelayedCalls() == []


def test_places_that_stand_still() -> None:
    """Where all places have stood still for a moment, a delivery to an origin that isn't known to answer doesn't wait,
    also where places came back without an answer."""
    side = Side()
    for _ in range(LIMIT // 2):
        side.enter()
    waiting = side.enter()
    side.let_go(STILL - 1)
    assert waiting == []
    side.let_go(1)
    assert full(waiting)
    side.leave("http://a:80", UNKNOWN, answered=False)
    assert side.enter("http://b:80") == [UNKNOWN]
    assert full(side.enter("http://b:80"))
    assert side.clock.getDelayedCalls() == []


def test_a_busy_reactor() -> None:
    """A process that stood still for long gives up no delivery before it has looked for answers."""
    side = Side()
    side.prove()
    for _ in range(LIMIT):
        side.enter()
    waiting = side.enter("http://b:80")
    side.clock.advance(60)
    side.leave("http://a:80", ANSWERS, answered=True)
    assert waiting == [UNKNOWN]


def test_origins_that_hang() -> None:
    """Origins that don't answer have a half of the bulkhead: those that answer go on beside them at once, and what
    comes for the former waits outside at once."""
    side = Side()
    side.prove("http://good:80")
    hanging = [side.enter(f"http://{number}:80") for number in range(LIMIT)]
    assert hanging == [[UNKNOWN]] * (LIMIT // 2) + [[]] * (LIMIT // 2)
    for number in range(100):
        assert side.enter("http://good:80") == [ANSWERS]
        side.let_go(1)
        side.leave("http://good:80", ANSWERS, answered=True)
        assert number < STILL or full(side.enter("http://more:80"))
    assert all(full(entered) for entered in hanging[LIMIT // 2 :])


def test_it_answers_after_all() -> None:
    """What waits for an origin that was not known goes on as soon as it answers."""
    side = Side()
    entered = [side.enter() for _ in range(LIMIT + 1)]
    assert entered == [[UNKNOWN], [UNKNOWN], [], [], []]
    side.leave("http://a:80", UNKNOWN, answered=True)
    assert entered == [[UNKNOWN], [UNKNOWN], [ANSWERS], [ANSWERS], [ANSWERS]]


def test_one_that_fails() -> None:
    """An origin that answered, and then fails, has a quarter of the places, which it takes from no other."""
    side = Side()
    side.prove()
    assert side.enter() == [ANSWERS]
    side.leave("http://a:80", ANSWERS, answered=False)
    assert side.enter() == [FAILS]
    assert side.enter() == []
    assert [side.enter("http://b:80") for _ in range(2)] == [[UNKNOWN]] * 2


def test_cancelled() -> None:
    """A delivery that is cancelled while it waits takes no place."""
    side = Side()
    side.prove()
    for _ in range(LIMIT):
        side.enter()
    waiting = Deferred.fromCoroutine(side.bulkhead.enter("http://a:80"))
    ends = results(waiting)
    waiting.cancel()
    assert isinstance(ends[0], CancelledError)
    side.leave("http://a:80", ANSWERS, answered=True)
    assert side.clock.getDelayedCalls() == []
    assert side.enter() == [ANSWERS]


def test_bounded() -> None:
    """A bounded number of origins is remembered."""
    side = Side()
    for number in range(MAX_KNOWN + 10):
        side.prove(f"http://{number}:80")
    assert side.enter("http://0:80") == [UNKNOWN]
    assert side.enter(f"http://{MAX_KNOWN + 9}:80") == [ANSWERS]


class Queue:
    """A queue with its places, on a clock: deliveries hold theirs until they are over.

    One that finds no place in the bulkhead comes back after 5 seconds, at the end of the queue.

    :ivar taken: origin -> seconds that its deliveries took in all, since they were added or came back
    :ivar put_off: how often one was
    """

    def __init__(self, limit: int = 10) -> None:
        self.clock = Clock()
        self.bulkheads = Bulkheads(self.clock, limit)
        self._free = 2 * limit
        self._ready: deque[tuple[str, float, bool, float]] = deque()
        self._delayed: deque[tuple[float, str, float, bool]] = deque()
        self._waited: list[float] = []
        self.taken: dict[str, list[float]] = {}
        self.put_off = 0

    def add(self, origin: str, seconds: float, *, answers: bool = True) -> None:
        """Add a delivery that takes so long; one for others has no origin."""
        self._ready.append((origin, seconds, answers, self.clock.seconds()))
        self._work()

    def go(self, seconds: float) -> None:
        """Let time go, with a delivery for others each tenth of a second."""
        for _ in range(round(seconds * 10)):
            self.add("", 0)
            self.advance(0.1)

    def advance(self, seconds: float) -> None:
        """Let time go."""
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)
            while self._delayed and self._delayed[0][0] <= self.clock.seconds():
                _, origin, takes, answers = self._delayed.popleft()
                self.add(origin, takes, answers=answers)
            self._work()

    @property
    def delivered(self) -> int:
        """How many deliveries to clients' URLs are over."""
        return sum(len(taken) for taken in self.taken.values())

    @property
    def waited(self) -> list[float]:
        """Seconds that each delivery for others has waited for its place in the queue."""
        now = self.clock.seconds()
        return self._waited + [now - since for origin, _, _, since in self._ready if not origin]

    def _work(self) -> None:
        while self._free and self._ready:
            self._free -= 1
            Deferred.fromCoroutine(self._deliver(*self._ready.popleft()))

    async def _deliver(self, origin: str, seconds: float, answers: bool, since: float) -> None:
        if not origin:
            self.bulkheads.share("sms", "event")
            self._waited.append(self.clock.seconds() - since)
        else:
            bulkhead = self.bulkheads.of("sms", "event")
            try:
                place = await bulkhead.enter(origin)
            except BulkheadFull:
                self.put_off += 1
                self._delayed.append((self.clock.seconds() + 5, origin, seconds, answers))
            else:
                await deferLater(self.clock, seconds)
                bulkhead.leave(origin, place, answered=answers)
                self.taken.setdefault(origin, []).append(self.clock.seconds() - since)
        self._free += 1


@pytest.mark.parametrize(
    ("origins", "seconds", "answers"),
    [
        pytest.param(1, 2.0, True, id="one that is slow"),
        pytest.param(50, 2.0, True, id="many that are slow"),
        pytest.param(1, 0.3, True, id="one that is rather slow"),
        pytest.param(1, 10.0, False, id="one that hangs"),
        pytest.param(50, 10.0, False, id="many that hang"),
        pytest.param(500, 3.0, False, id="as many as there are"),
    ],
)
def test_a_backlog_delays_no_other(origins: int, seconds: float, answers: bool) -> None:
    """Clients' URLs never hold more than half of the places for long: 500 events for such as are slow, or hang, delay
    others in their queue by less than a second, also when those that were put off come back."""
    queue = Queue()
    if answers:
        for number in range(origins):
            queue.add(f"http://{number}:80", 0.05)
    queue.go(1)
    for number in range(500):
        queue.add(f"http://{number % origins}:80", seconds, answers=answers)
    queue.go(17)
    assert max(queue.waited) < 1, sorted(queue.waited)[-20:]


def test_another_client_s_url_in_a_backlog() -> None:
    """Beside the backlog of a client's URL that is slow, another one that is quick gets all of its events at once."""
    queue = Queue()
    for origin in ("http://good:80", "http://slow:80"):
        queue.add(origin, 0.05)
    queue.go(1)
    for number in range(500):
        queue.add("http://slow:80", 1.5 + number % 20 / 20)
    queue.go(1)
    for _ in range(10):
        for _ in range(20):
            queue.add("http://good:80", 0.05)
        queue.go(1.5)
    assert len(queue.taken["http://good:80"]) == 201
    assert max(queue.taken["http://good:80"]) < 1.5
    assert max(queue.waited) < 1


def test_a_flow_is_not_put_off() -> None:
    """However many they are, no event for clients' URLs that answer quickly is put off."""
    queue = Queue()
    queue.go(0.1)
    for number in range(1000):
        queue.add(f"http://{number % 3}:80", 0.05)
    queue.go(8)
    assert (queue.delivered, queue.put_off) == (1000, 0)


def test_one_client_s_url_alone() -> None:
    """Where all events of a queue are for one client's URL, they delay no other, and wait for their places there: it
    gets them as fast as it takes them."""
    queue = Queue()
    queue.add("http://slow:80", 0.05)
    queue.advance(0.1)
    for _ in range(100):
        queue.add("http://slow:80", 1)
    queue.advance(11)
    assert (queue.delivered, queue.put_off) == (101, 0)
