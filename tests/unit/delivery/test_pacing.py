"""The pace of calls to one URL base, on a clock that the tests move."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from junebug_turn.delivery.pacing import (
    EVENTS_BEHIND,
    TURN_LIMIT,
    UNLIMITED,
    NoTurn,
    Pace,
)
from junebug_turn.delivery.quota import MAX_BACKOFF
from junebug_turn.delivery.rate import DeliveryRate
from tests.support.clocks import Wall

NOW = 1_000_000
"""What the monotonic clock of these tests shows at first."""

WALL = 1_800_000_000
"""What the wall clock shows then."""


@define
class Answer:
    """An answer, as far as a pace looks at it."""

    code: int = 200
    headers: Headers = field(factory=Headers)


def answer(code: int = 200, **headers: object) -> Answer:
    return Answer(
        code,
        Headers({name.replace("_", "-").encode(): [str(value).encode()] for name, value in headers.items()}),
    )


@define
class Side:
    """A pace with its clock, and the calls that wait, in the order of their turns."""

    clock: Clock
    pace: Pace
    turns: list[str] = field(factory=list)
    refused: list[str] = field(factory=list)

    @classmethod
    def make(cls, rate: DeliveryRate | None = None) -> Side:
        clock = Clock()
        clock.advance(NOW)
        pace = Pace(clock, Wall(clock, WALL - NOW), "http://turn:80")
        pace.rate = rate
        return cls(clock, pace)

    def start(
        self, name: str, kind: str = "inbound", patience: float = TURN_LIMIT, *, again: bool = False
    ) -> Deferred[None] | None:
        """Ask for a turn."""
        turn = self.pace.enter("c", kind, self.clock.seconds() + patience, again=again)
        if turn is None:
            self.turns.append(name)
        else:
            turn.addCallback(lambda _: self.turns.append(name))
            turn.addErrback(
                lambda failure: (failure.trap(NoTurn, CancelledError), self.refused.append(name))[1]
            )
        return turn

    def starts(self, *names: str, kind: str = "inbound") -> list[str]:
        """Ask for turns; the names of those that have come by now, which are forgotten."""
        for name in names:
            self.start(name, kind)
        return self.came()

    def came(self, seconds: float = 0) -> list[str]:
        """Let time go on; the turns that have come since."""
        if seconds:
            self.clock.advance(seconds)
        turns, self.turns = self.turns, []
        return turns

    def end(self, response: Any, kind: str = "inbound") -> list[str]:
        """End a call; the turns that have come since."""
        self.pace.end(kind, response)
        return self.came()


def test_without_a_quota() -> None:
    """Where neither the service nor the configuration has a quota, each call may be made at once, and nothing is
    remembered."""
    side = Side.make()
    names = [str(n) for n in range(100)]
    assert side.starts(*names) == names
    for _ in names:
        side.end(answer())
    assert side.pace.idle
    assert side.clock.getDelayedCalls() == []


def test_the_configured_quota() -> None:
    """delivery_rate_limit {calls: 3, seconds: 60}: no more than 3 calls are made in any 60 seconds, those under way
    included; each counts until 60 s after its end, since the service may have counted it as late as that."""
    side = Side.make(DeliveryRate(3, 60))
    assert side.starts("a", "b", "c", "d", "e") == ["a", "b", "c"]
    assert side.came(10) == []
    assert side.end(answer()) == side.end(answer()) == side.end(None) == []
    assert side.came(59.9) == []
    assert side.came(0.2) == ["d", "e"]
    assert side.starts("f", "g") == ["f"]
    side.end(answer())
    assert not side.pace.idle
    assert side.came(60.1) == ["g"]


def test_inbound_messages_go_before_events() -> None:
    """Inbound messages go before events, however long these have waited, and each of both in order."""
    side = Side.make(DeliveryRate(1, 60))
    assert side.starts("first") == ["first"]
    assert side.starts("event 1", "event 2", kind="event") == []
    assert side.starts("inbound 1", "inbound 2") == []
    order: list[str] = []
    for _ in range(4):
        side.end(answer(), "event" if "event 1" in order else "inbound")
        order += side.came(60.1)
    assert order == ["inbound 1", "inbound 2", "event 1", "event 2"]


def test_inbound_messages_that_the_broker_holds_back() -> None:
    """After inbound messages had to wait, those that come when others are done go before the events that wait, though
    there is room in the quota for these; but a steady flow of inbound messages doesn't hold events up."""
    side = Side.make(DeliveryRate(10, 60))
    side.starts(*[f"first {n}" for n in range(10)])
    side.starts("event", kind="event")
    side.starts("inbound 1", "inbound 2")
    for _ in range(10):
        side.end(answer())
    assert side.came(60.1) == ["inbound 1", "inbound 2"]
    side.end(answer())
    assert side.starts("inbound 3", "inbound 4") == ["inbound 3", "inbound 4"]
    assert side.came(EVENTS_BEHIND - 0.5) == []
    assert side.came(0.6) == ["event"]
    side.starts("event 2", kind="event")
    assert [side.end(answer()) for _ in range(3)][-1] == []


@pytest.mark.parametrize("reset", [30, WALL + 30, (WALL + 30) * 1000])
def test_the_service_s_own_quota(reset: int) -> None:
    """Deliveries keep to X-Ratelimit-Remaining until X-Ratelimit-Reset, in seconds from now or as a Unix time; those
    under way are taken off, since the service may not have counted them.  Then one call asks for the new quota."""
    side = Side.make()
    assert side.starts("a", "b") == ["a", "b"]
    side.end(answer(x_ratelimit_remaining=3, x_ratelimit_reset=reset))
    assert side.starts("c", "d", "e") == ["c", "d"]  # b is under way
    assert side.end(answer(x_ratelimit_remaining=2, x_ratelimit_reset=reset)) == []
    side.end(answer(x_ratelimit_remaining=1, x_ratelimit_reset=reset))
    side.end(answer(x_ratelimit_remaining=0, x_ratelimit_reset=reset))
    assert side.starts("f", "g") == []
    assert side.came(29.9) == []
    assert side.came(0.2) == ["e"]
    assert side.end(answer(x_ratelimit_remaining=59, x_ratelimit_reset=reset + 60)) == ["f", "g"]


def test_the_service_s_clock_differs() -> None:
    """A X-Ratelimit-Reset that is a Unix time is read by the service's clock, which the answer's Date shows."""
    side = Side.make()
    side.starts("a")
    side.end(
        answer(x_ratelimit_remaining=0, x_ratelimit_reset=1_000_000_020, date="Sun, 09 Sep 2001 01:46:40 GMT")
    )
    side.start("b")
    assert side.came(19.9) == []
    assert side.came(0.2) == ["b"]


def test_answers_overtake_each_other() -> None:
    """An older answer that comes later does not raise the quota again."""
    side = Side.make()
    assert len(side.starts("a", "b")) == 2
    side.end(answer(x_ratelimit_remaining=0, x_ratelimit_reset=30))
    side.end(answer(x_ratelimit_remaining=1, x_ratelimit_reset=30))
    assert side.starts("c") == []


@pytest.mark.parametrize("junk", ["", "-1", "many", "1e3", "9" * 50, "٣"])
def test_headers_that_say_nothing(junk: str) -> None:
    """Headers that can't be read are as good as none, and no reset is further away than 5 minutes."""
    side = Side.make()
    side.starts("a")
    side.end(answer(x_ratelimit_remaining=junk, x_ratelimit_reset=junk, retry_after=junk))
    assert side.starts("b") == ["b"]
    side.end(answer(x_ratelimit_remaining=0, x_ratelimit_reset=10**6))
    side.start("c", patience=1000)
    assert side.came(299) == []
    assert side.came(2) == ["c"]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [({"retry_after": 7}, 7), ({"x_ratelimit_reset": 9}, 9), ({}, 1), ({"retry_after": 86400}, 300)],
)
def test_429(headers: dict[str, int], wait: float) -> None:
    """After a 429 no call is made for as long as Retry-After or X-Ratelimit-Reset asks, within bounds; then one, whose
    answer says whether there can be more."""
    side = Side.make()
    side.starts("a", "b")
    side.end(answer(429, **headers))
    side.end(answer(429, **headers))
    for name in "cdef":
        side.start(name, patience=1000)
    assert side.came(wait - 0.1) == []
    assert side.came(0.2) == ["c"]
    assert side.end(answer()) == ["d", "e"]
    assert side.end(answer()) == ["f"]


def test_a_429_costs_no_place() -> None:
    """A delivery that got a 429 has its turn again before those that wait, in the order of the 429s."""
    side = Side.make()
    side.starts("a", "b")
    for name in ("a", "b"):
        side.end(answer(429, retry_after=9))
        side.start(f"new {name}")
        side.start(name, again=True)
    found = side.came(10)
    for _ in range(3):
        found += side.end(answer()) + side.came(1)
    assert found == ["a", "b", "new a", "new b"]


def test_429_again_and_again() -> None:
    """Pauses grow as long as 429 follows 429, up to a minute, and only one call is made after each; a success ends
    the growth, and after some more all is as before."""
    side = Side.make()
    side.starts("0")
    pauses = []
    for n in range(1, 10):
        side.end(answer(429))
        side.start(str(n))
        before = side.clock.seconds()
        while not side.turns:
            side.clock.advance(0.5)
        pauses.append(side.clock.seconds() - before)
        assert side.came() == [str(n)]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, MAX_BACKOFF, MAX_BACKOFF, MAX_BACKOFF], abs=0.6)
    side.end(answer())
    for _ in range(UNLIMITED):
        side.starts("more")
        side.end(answer())
    assert side.pace.idle
    side.starts("once more")
    side.end(answer(429))
    side.start("last")
    assert side.came(1.1) == ["last"]


def test_calls_without_an_answer() -> None:
    """A call that got no answer may have been counted by the service; after its window each is tried alone."""
    side = Side.make()
    side.starts("a")
    side.end(answer(x_ratelimit_remaining=2, x_ratelimit_reset=30))
    assert side.starts("b", "c", "d") == ["b", "c"]
    assert side.end(None) == side.end(None) == []
    assert side.came(30.1) == ["d"]
    side.start("e")
    assert side.end(None) == ["e"]


def test_the_turn_does_not_come() -> None:
    """A delivery whose turn doesn't come in time leaves the line, and takes nobody's place."""
    side = Side.make(DeliveryRate(1, 60))
    side.starts("a")
    side.start("b", patience=30)
    side.start("c")
    assert side.came(31) == []
    assert side.refused == ["b"]
    side.end(answer())
    assert side.came(60.1) == ["c"]


def test_a_call_that_was_not_made() -> None:
    """A turn that was not used is another one's."""
    side = Side.make(DeliveryRate(1, 60))
    side.starts("a", "b")
    side.pace.release("inbound")
    assert side.came() == ["b"]


def test_cancel_and_stop() -> None:
    """A delivery that waits can be cancelled; stop cancels all, now and from now on, and not those under way."""
    side = Side.make(DeliveryRate(1, 60))
    side.starts("a")
    turn = side.start("b")
    assert turn is not None
    turn.cancel()
    side.start("c")
    side.pace.stop()
    side.start("d")
    assert side.refused == ["b", "c", "d"]
    side.end(answer())
    assert side.clock.getDelayedCalls() == []


@pytest.mark.parametrize("shared", [False, True])
def test_ten_minutes_against_a_service(shared: bool) -> None:
    """400 calls against a quota of 60 in 60 s, counted over any minute, are all made within the quota's time + 10 %,
    and after the first 429 there is none: with the quota configured, and with the service's word for it alone."""
    side = Side.make(None if shared else DeliveryRate(60, 60))
    served: deque[float] = deque()
    refused = 0
    start = side.clock.seconds()

    def call(_: object) -> None:
        side.clock.callLater(0.05, serve)

    def serve() -> None:
        nonlocal refused
        now = side.clock.seconds()
        recent = [at for at in served if at > now - 60]
        # A minute's end is rounded up, as whole seconds are.
        reset = int(WALL + (recent[0] if recent else now) + 60 - NOW) + 1
        if len(recent) >= 60:
            refused += 1
            side.pace.end("inbound", answer(429, retry_after=int(recent[0] + 60 - now) + 1))
            again()
            return
        served.append(now)
        side.pace.end("inbound", answer(x_ratelimit_remaining=59 - len(recent), x_ratelimit_reset=reset))
        more()

    def again() -> None:
        turn = side.pace.enter("c", "inbound", side.clock.seconds() + 1000)
        if turn is None:
            call(None)
        else:
            turn.addCallback(call)

    left = 400

    def more() -> None:
        nonlocal left
        if left:
            left -= 1
            again()

    for _ in range(20):
        more()
    while len(served) < 400:
        side.clock.advance(0.01)
        assert side.clock.seconds() - start < 400 * 1.1
    assert refused <= 1
