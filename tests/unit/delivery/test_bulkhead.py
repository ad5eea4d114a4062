"""The bulkhead of clients' URLs, on a clock that the tests move."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater

from junebug_turn.connectors.deferrals import Deferrals
from junebug_turn.connectors.retry_queues import DEFERRAL, SOON
from junebug_turn.delivery.bulkhead import (
    CLIENT_PATIENCE,
    MAX_KNOWN,
    RETURN,
    TICK,
    Bulkhead,
    BulkheadFull,
)
from junebug_turn.delivery.bulkheads import Bulkheads
from junebug_turn.delivery.places import Place, Standing
from junebug_turn.delivery.retry import ASKS
from tests.unit.delivery.test_circuit import results

LIMIT = 4
FEW = LIMIT // 2  # that wait without the prospect of a place
ANSWERS, UNKNOWN, FAILS, HANGS = Standing


class Side:
    """A bulkhead with its clock, and the deliveries that are under way.

    :ivar recoveries: how often it reported one
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.recoveries = 0
        self.bulkhead = Bulkhead(self.clock, limit, self._recovered)
        self._places: list[tuple[str, Place]] = []

    def enter(self, origin: str = "http://a:80") -> list[Any]:
        """Its only item is the origin's standing, or the exception; empty while it waits."""

        def entered(place: Place) -> Standing:
            self._places.append((origin, place))
            return place.standing

        return results(Deferred.fromCoroutine(self.bulkhead.enter(origin)).addCallback(entered))

    def leave(
        self,
        origin: str,
        standing: Standing,
        *,
        answered: bool | None,
        seconds: float | None = None,
        hung: bool = False,
    ) -> None:
        """Give such a place back."""
        each = next(each for each in self._places if (each[0], each[1].standing) == (origin, standing))
        self._places.remove(each)
        self.bulkhead.leave(each[1], answered=answered, seconds=seconds, hung=hung)

    def let_go(self, ticks: int) -> None:
        """Let time go."""
        for _ in range(ticks):
            self.clock.advance(TICK)

    def prove(self, origin: str = "http://a:80") -> None:
        """Have an origin answer."""
        (standing,) = self.enter(origin)
        self.leave(origin, standing, answered=True)

    def fill(self, origin: str) -> int:
        """Have an origin take all places that it gets; returns their number."""
        count = 0
        while (entered := self.enter(origin)) and isinstance(entered[0], Standing):
            count += 1
        return count

    def make_slow(self, origin: str) -> None:
        """Have an origin answer slowly."""
        (standing,) = self.enter(origin)
        self.let_go(12)
        self.leave(origin, standing, answered=True)

    def _recovered(self) -> None:
        self.recoveries += 1


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
    """Where all places have stood still for a moment, only few deliveries to an origin that isn't known to answer wait,
    also where places came back without an answer."""
    side = Side()
    for _ in range(LIMIT // 2):
        side.enter()
    waiting = [side.enter() for _ in range(5)]
    side.let_go(2)
    assert waiting == [[]] * 5
    side.let_go(1)
    assert [full(each) for each in waiting] == [False] * FEW + [True] * (5 - FEW)
    for _ in range(2):
        side.leave("http://a:80", UNKNOWN, answered=False)
    assert waiting[:FEW] == [[FAILS], []]
    assert side.enter("http://b:80") == [UNKNOWN]
    assert full(side.enter())


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
    """Origins that don't answer have a half of the bulkhead: those that answer go on beside them at once, and few of
    the former wait."""
    side = Side()
    side.prove("http://good:80")
    hanging = [side.enter(f"http://{number}:80") for number in range(LIMIT)]
    assert hanging == [[UNKNOWN]] * (LIMIT // 2) + [[]] * (LIMIT // 2)
    for number in range(100):
        assert side.enter("http://good:80") == [ANSWERS]
        side.let_go(1)
        side.leave("http://good:80", ANSWERS, answered=True)
        hanging.append(side.enter("http://more:80"))
        assert number < 3 or hanging.count([]) <= FEW
    assert hanging.count([UNKNOWN]) == LIMIT // 2


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


def test_one_that_fails_beside_a_slow_one() -> None:
    """An origin that failed is asked again, also where another has all places for long: the other leaves the next two
    free for it, has its share of the rest while more may come for it, and has them back when that is over."""
    side = Side(10)
    a, slow = "http://a:80", "http://slow:80"
    side.prove(a)
    side.make_slow(slow)
    assert side.enter(a) == [ANSWERS]
    side.leave(a, ANSWERS, answered=False)
    assert side.fill(slow) == 6
    assert [side.enter(a), side.enter(a)] == [[FAILS], [FAILS]]
    for _ in range(2):
        side.leave(a, FAILS, answered=True)
    assert side.fill(slow) == 0
    side.let_go(round(RETURN / TICK))
    assert side.fill(slow) == 2


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
def test_few_places(limit: int) -> None:
    """Also where there are few places, one that is slow has its part of them beside others that fail, hang, or are not
    known."""
    side = Side(limit)
    side.make_slow("http://slow:80")
    for origin, hung in (("http://fails:80", False), ("http://hangs:80", True)):
        (standing,) = side.enter(origin)
        side.leave(origin, standing, answered=False, hung=hung)
    assert side.enter("http://new:80") == [UNKNOWN]
    side.leave("http://new:80", UNKNOWN, answered=None)
    assert side.fill("http://slow:80") >= max(1, limit // 3)


def test_one_that_fails_beside_one_that_hangs() -> None:
    """Of two origins that hang each is asked: none has all places that such origins have.  Nor have they those of one
    that fails at once, also beside one that is slow."""
    side = Side(10)
    a, hanging = "http://a:80", "http://hanging:80"
    for origin in (hanging, a):
        (standing,) = side.enter(origin)
        side.leave(origin, standing, answered=False, hung=True)
    assert side.fill(hanging) == 1
    assert side.enter(a) == [HANGS]
    side.leave(a, HANGS, answered=False)
    side.make_slow("http://slow:80")
    while side.enter("http://slow:80") == [ANSWERS]:
        pass
    assert side.enter(a) == [FAILS]


def test_one_that_found_no_place() -> None:
    """An origin that came when another had all places gets the next ones, although the other wants them as well, and
    few of its deliveries wait for them."""
    side = Side(10)
    a, slow = "http://a:80", "http://slow:80"
    side.make_slow(slow)
    side.prove("http://other:80")
    assert side.fill(slow) == 8
    waiting = [side.enter(a) for _ in range(4)]
    side.let_go(3)
    assert [full(each) for each in waiting] == [False, False, True, True]
    for _ in range(2):
        side.leave(slow, ANSWERS, answered=True)
    assert (waiting[:2], side.fill(slow)) == ([[UNKNOWN]] * 2, 0)


def test_a_slow_one_beside_a_quick_one() -> None:
    """Most of what would wait for a slow origin is put off, also where another one's answers are quick: its places are
    not for it, and what waits holds places of the queue."""
    side = Side(10)
    side.prove("http://quick:80")
    side.make_slow("http://slow:80")
    side.fill("http://slow:80")
    waiting = [side.enter("http://slow:80") for _ in range(10)]
    for _ in range(4):
        for _ in range(20):
            side.prove("http://quick:80")
        side.let_go(1)
    assert waiting.count([]) <= 5
    assert sum(map(full, waiting)) >= 5


def test_a_claim_ends() -> None:
    """Places are left free for a moment only to an origin that no longer comes."""
    side = Side(10)
    a, slow = "http://a:80", "http://slow:80"
    side.make_slow(slow)
    (standing,) = side.enter(a)
    side.leave(a, standing, answered=False)
    assert side.fill(slow) == 6
    side.clock.advance(6)
    # One that waited has a place already.
    assert side.fill(slow) == 1


def test_not_asked() -> None:
    """A delivery that asked for nothing says nothing about its origin: one that answers goes on as before."""
    side = Side()
    side.prove()
    assert side.enter() == [ANSWERS]
    side.leave("http://a:80", ANSWERS, answered=None)
    assert side.enter() == [ANSWERS]


def test_quick_again() -> None:
    """An origin that failed and then answers quickly is quick at once, however long its delivery was tried before: it
    has places that a slow one can't take."""
    side = Side(10)
    a, slow = "http://a:80", "http://slow:80"
    side.make_slow(slow)
    (standing,) = side.enter(a)
    side.leave(a, standing, answered=False)
    assert side.enter(a) == [FAILS]
    side.let_go(round(RETURN / TICK))
    side.leave(a, FAILS, answered=True, seconds=0.02)
    assert side.fill(slow) == 8
    assert side.fill(a) == 2


def test_slow_with_its_pauses() -> None:
    """An origin that answers only at a second attempt is slow, since its deliveries have their places so long."""
    side = Side(10)
    side.make_slow("http://slow:80")
    side.prove()
    assert side.enter() == [ANSWERS]
    side.let_go(16)
    side.leave("http://a:80", ANSWERS, answered=True, seconds=0.02)
    side.fill("http://slow:80")
    assert side.fill("http://a:80") == 0


def test_recovery_is_reported() -> None:
    """When an origin answers for which some found no place while it wasn't known to answer, that is reported, once:
    these may be deferred."""
    side = Side()
    side.prove()
    (standing,) = side.enter()
    side.leave("http://a:80", standing, answered=False)
    assert side.enter() == [FAILS]
    side.leave("http://a:80", FAILS, answered=True)
    assert side.recoveries == 0
    side.enter()
    side.leave("http://a:80", ANSWERS, answered=False)
    assert side.enter() == [FAILS]
    waiting = side.enter()
    side.let_go(round(CLIENT_PATIENCE / TICK))
    assert full(waiting)
    side.leave("http://a:80", FAILS, answered=True)
    assert side.recoveries == 1
    side.prove()
    assert side.recoveries == 1


@pytest.mark.parametrize(("seconds", "soon"), [(1.0, 8 * 5), (2.5, 8 * 2), (0.0, 10 * 25)])
def test_how_many_come_back_soon(seconds: float, soon: int) -> None:
    """Of the deliveries that find no place as many may come back soon as their origin takes in 5 seconds, as it has
    answered so far; a few where it doesn't answer, so that it is asked again."""
    side = Side(10)
    side.bulkhead.shared = True
    (standing,) = side.enter()
    side.leave("http://a:80", standing, answered=True, seconds=seconds)
    entered = [side.enter() for _ in range(30)]
    side.let_go(round(CLIENT_PATIENCE / TICK))
    assert {each[0].soon for each in entered if full(each)} == {soon}
    side.leave("http://a:80", ANSWERS, answered=False)
    entered = [side.enter() for _ in range(30)]
    assert {each[0].soon for each in entered if full(each)} == {ASKS}


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

    One that finds no place in the bulkhead, or no answer, comes back after 1 or 5 seconds, at the end of the queue.

    :ivar down: origins that answer with a failure at once
    :ivar taken: origin -> seconds that its deliveries took in all, since they were added or came back
    :ivar put_off: how often one was
    """

    def __init__(self, limit: int = 10) -> None:
        self.clock = Clock()
        self.bulkheads = Bulkheads(self.clock, limit)
        self._free = 2 * limit
        self._ready: deque[tuple[str, float, bool, float]] = deque()
        self._deferrals = Deferrals(DEFERRAL, SOON, self.clock.seconds)
        self._delayed: dict[float, deque[tuple[float, str, float, bool]]] = {1: deque(), 5: deque()}
        self._waited: list[float] = []
        self.down: set[str] = set()
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
            for delayed in self._delayed.values():
                while delayed and delayed[0][0] <= self.clock.seconds():
                    _, origin, takes, answers = delayed.popleft()
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

    def _delay(self, origin: str, seconds: float, answers: bool, soon: int = ASKS) -> None:
        delay = self._deferrals.next(None, 0, origin, soon)
        assert delay is not None
        self._delayed[delay].append((self.clock.seconds() + delay, origin, seconds, answers))

    async def _deliver(self, origin: str, seconds: float, answers: bool, since: float) -> None:
        if not origin:
            self.bulkheads.share("sms", "event")
            self._waited.append(self.clock.seconds() - since)
        else:
            bulkhead = self.bulkheads.of("sms", "event")
            try:
                place = await bulkhead.enter(origin)
            except BulkheadFull as full:
                self.put_off += 1
                self._delay(origin, seconds, answers, full.soon)
            else:
                if origin in self.down:
                    await deferLater(self.clock, 0.05)
                    bulkhead.leave(place, answered=False)
                    self._delay(origin, seconds, answers)
                    self._free += 1
                    return
                await deferLater(self.clock, seconds)
                bulkhead.leave(place, answered=answers, hung=not answers)
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


def after_an_outage(others: int, seconds: float, *, answers: bool, own: float) -> Queue:
    """A queue, 10 seconds after a client's URL, whose deliveries take ``own`` seconds, answers again, beside the
    backlogs of so many others."""
    queue = Queue()
    origins = [f"http://slow-{number}:80" for number in range(others)]
    for origin in ("http://good:80", *origins):
        queue.add(origin, 0.05)
    queue.go(1)
    for number in range(200):
        queue.add(origins[number % others], seconds, answers=answers)
    queue.go(10)
    queue.down.add("http://good:80")
    for _ in range(200):
        queue.add("http://good:80", own)
    queue.go(30)
    assert len(queue.taken["http://good:80"]) == 1
    queue.down.clear()
    queue.go(10)
    return queue


@pytest.mark.parametrize(
    ("others", "seconds", "answers"),
    [
        pytest.param(1, 3, True, id="slow"),
        pytest.param(50, 3, True, id="many that are slow"),
        pytest.param(1, 10, False, id="hangs"),
        pytest.param(6, 10, False, id="several that hang"),
    ],
)
def test_back_again_beside_a_backlog(others: int, seconds: float, answers: bool) -> None:
    """Beside the backlogs of clients' URLs that are slow, or hang, another one that was down and answers again gets all
    of its events within 10 seconds."""
    queue = after_an_outage(others, seconds, answers=answers, own=0.05)
    assert len(queue.taken["http://good:80"]) == 201
    assert max(queue.waited) < 2


@pytest.mark.parametrize(
    ("own", "least"), [pytest.param(0.3, 70, id="a third"), pytest.param(1.5, 14, id="more")]
)
def test_rather_slow_beside_a_backlog(own: float, least: int) -> None:
    """Beside the backlog of a client's URL that is slow, another one that takes a third of a second for each of its
    events, or more, uses most of its share of the places after an outage."""
    queue = after_an_outage(1, 3, answers=True, own=own)
    assert len(queue.taken["http://good:80"]) > least
    assert max(queue.waited) < 1


def test_a_rather_slow_backlog() -> None:
    """A client's URL that takes a third of a second for each event gets most of those that it can take, although they
    delay no other in their queue."""
    queue = Queue()
    queue.add("http://good:80", 0.3)
    queue.go(1)
    for _ in range(300):
        queue.add("http://good:80", 0.3)
    queue.go(10)
    assert len(queue.taken["http://good:80"]) > 180
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


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["enter", "answer", "fail", "hang", "not asked", "cancel", "wait"]),
            st.integers(0, 7),
        ),
        max_size=60,
    ),
    limit=st.integers(1, 10),
)
def test_no_place_is_lost(steps: list[tuple[str, int]], limit: int) -> None:
    """However deliveries come, end and are cancelled, no more are under way than there are places; when all are over,
    an origin that answers quickly gets all of these, and no timer is left."""
    clock = Clock()
    bulkhead = Bulkhead(clock, limit)
    places: list[Place] = []
    waiting: list[Deferred[Place]] = []
    ends = {
        "answer": {"answered": True},
        "fail": {"answered": False},
        "hang": {"answered": False, "hung": True},
        "not asked": {"answered": None},
    }

    def enter(origin: str) -> None:
        delivery = Deferred.fromCoroutine(bulkhead.enter(origin))
        waiting.append(delivery)
        delivery.addBoth(entered, delivery)

    def entered(end: Any, delivery: Deferred[Place]) -> None:
        waiting.remove(delivery)
        if isinstance(end, Place):
            places.append(end)
        else:
            end.trap(BulkheadFull, CancelledError)

    for step, number in steps:
        if step == "enter":
            enter(f"http://{number % 4}:80")
        elif step == "wait":
            clock.advance(number / 2)
        elif step == "cancel":
            for delivery in waiting[number : number + 1]:
                delivery.cancel()
        elif places:
            bulkhead.leave(places.pop(number % len(places)), **ends[step])
        assert len(places) <= limit
    while places:
        bulkhead.leave(places.pop(), answered=False)
    clock.pump([1] * 30)
    while places:
        bulkhead.leave(places.pop(), answered=False)
    assert (waiting, clock.getDelayedCalls()) == ([], [])
    for _ in range(2 * limit):
        enter("http://0:80")
        for place in places[:1]:
            bulkhead.leave(place, answered=True, seconds=0.01)
            places.remove(place)
    clock.advance(10)
    for _ in range(limit):
        enter("http://0:80")
    assert len(places) == limit
