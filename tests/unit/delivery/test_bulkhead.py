"""The bulkhead of clients' URLs, on a clock that the tests move."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from junebug_turn.delivery.bulkhead import (
    CLIENT_PATIENCE,
    MAX_KNOWN,
    STILL,
    TICK,
    Bulkhead,
    BulkheadFull,
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

    def enter(self, origin: str = "http://a:80") -> list[Any]:
        """Its only item is the origin's standing, or the exception; empty while it waits."""
        return results(Deferred.fromCoroutine(self.bulkhead.enter(origin)))

    def let_go(self, ticks: int) -> None:
        """Let time go."""
        for _ in range(ticks):
            self.clock.advance(TICK)

    def prove(self, origin: str = "http://a:80") -> None:
        """Have an origin answer."""
        (standing,) = self.enter(origin)
        self.bulkhead.leave(origin, standing, answered=True)


def full(entered: list[Any]) -> bool:
    return len(entered) == 1 and isinstance(entered[0], BulkheadFull)


def test_half_of_the_places() -> None:
    """No more deliveries are under way than the limit; one more waits until another one ends, in its order."""
    side = Side()
    side.prove()
    assert [side.enter() for _ in range(LIMIT)] == [[ANSWERS]] * LIMIT
    first, second = side.enter(), side.enter()
    assert (first, second) == ([], [])
    side.bulkhead.leave("http://a:80", ANSWERS, answered=True)
    assert (first, second) == ([ANSWERS], [])


def test_waits_outside() -> None:
    """A delivery waits for a place for 5 s at most; where all places have stood still for a moment, not at all to an
    origin that isn't known to answer."""
    side = Side()
    side.prove()
    for _ in range(LIMIT):
        side.enter()
    waiting, unknown = side.enter(), side.enter("http://b:80")
    side.let_go(STILL - 1)
    assert unknown == []
    side.let_go(1)
    assert full(unknown)
    assert full(side.enter("http://b:80"))
    side.let_go(round(CLIENT_PATIENCE / TICK) - STILL - 1)
    assert waiting == []
    side.let_go(1)
    assert full(waiting)
    assert side.clock.getDelayedCalls() == []


def test_a_busy_reactor() -> None:
    """A process that stood still for long gives up no delivery before it has looked for answers."""
    side = Side()
    side.prove()
    for _ in range(LIMIT):
        side.enter()
    waiting = side.enter("http://b:80")
    side.clock.advance(60)
    side.bulkhead.leave("http://a:80", ANSWERS, answered=True)
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
        side.bulkhead.leave("http://good:80", ANSWERS, answered=True)
        assert number < STILL or full(side.enter("http://more:80"))
    assert all(full(entered) for entered in hanging[LIMIT // 2 :])


def test_it_answers_after_all() -> None:
    """What waits for an origin that was not known goes on as soon as it answers."""
    side = Side()
    entered = [side.enter() for _ in range(LIMIT + 1)]
    assert entered == [[UNKNOWN], [UNKNOWN], [], [], []]
    side.bulkhead.leave("http://a:80", UNKNOWN, answered=True)
    assert entered == [[UNKNOWN], [UNKNOWN], [ANSWERS], [ANSWERS], [ANSWERS]]


def test_one_that_fails() -> None:
    """An origin that answered, and then fails, has a quarter of the places, which it takes from no other."""
    side = Side()
    side.prove()
    assert side.enter() == [ANSWERS]
    side.bulkhead.leave("http://a:80", ANSWERS, answered=False)
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
    assert side.clock.getDelayedCalls() == []
    side.bulkhead.leave("http://a:80", ANSWERS, answered=True)
    assert side.enter() == [ANSWERS]


def test_bounded() -> None:
    """A bounded number of origins is remembered."""
    side = Side()
    for number in range(MAX_KNOWN + 10):
        side.prove(f"http://{number}:80")
    assert side.enter("http://0:80") == [UNKNOWN]
    assert side.enter(f"http://{MAX_KNOWN + 9}:80") == [ANSWERS]
