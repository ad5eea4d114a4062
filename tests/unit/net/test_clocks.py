"""The two clocks: a reactor that counts by the monotonic one, and a wall clock that is set while it is used."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock

from junebug_turn.net import clocks
from junebug_turn.net.clocks import WALL_CLOCK, WallClock, use_monotonic
from tests.support.clocks import Wall

HOUR = 3600.0


class Reactor(ReactorBase):
    """A reactor that a test turns."""

    def installWaker(self) -> None:
        pass

    def removeAll(self) -> list[Any]:
        return []


class Times:
    """What the process's clocks show."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.monotonic = 1_700_000_000.0, 5000.0
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic)
        monkeypatch.setattr(clocks, "_wall", lambda: self.wall)

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_reactor(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """Timed calls come when they are due, whatever the wall clock is set to, those that were made before too."""
    times = Times(monkeypatch)
    reactor: Any = Reactor()
    called: list[int] = []
    reactor.seconds = lambda: times.wall
    cancelled = reactor.callLater(2, called.append, 0)
    reactor.callLater(10, called.append, 1)
    cancelled.cancel()
    use_monotonic(reactor)
    reactor.callLater(5, called.append, 2)
    times.wall += jump
    for second in range(11):
        reactor.runUntilCurrent()
        assert called == [number for number, due in ((2, 5), (1, 10)) if second >= due]
        times.advance(1)
    use_monotonic(reactor)
    assert reactor.seconds() == times.monotonic


def test_wall_clock_of_the_process() -> None:
    """The process's wall clock shows Unix seconds."""
    assert abs(WALL_CLOCK.now() - time.time()) < 1


@given(
    st.lists(st.one_of(st.floats(1, 100), st.sampled_from([-HOUR, HOUR, -24 * HOUR, 24 * HOUR])), max_size=8)
)
def test_elapsed(steps: list[float]) -> None:
    """The time since a moment of which only the date is known is right where the clock was set once since, either way,
    or several times in one direction."""
    clock = Clock()
    wall = Wall(clock)
    since, began, jumps = wall.now(), clock.seconds(), []
    for step in steps:
        if abs(step) >= HOUR:
            wall.ahead += step
            jumps.append(step)
            wall.now()
        else:
            clock.advance(step)
        if len(jumps) > 1 and min(jumps) < 0:
            return
        assert wall.elapsed(since) == pytest.approx(clock.seconds() - began, abs=0.01)
        assert wall.elapsed(wall.now()) == pytest.approx(0, abs=0.01)


def test_times_to_come() -> None:
    """A time to come, as another machine's clock may have it, is now."""
    wall = Wall(Clock())
    assert wall.elapsed(wall.now() + 50) == 0


def test_small_differences() -> None:
    """A clock that is corrected by little has not been set."""
    clock = Clock()
    wall = Wall(clock)
    since = wall.now()
    for _ in range(100):
        clock.advance(60)
        wall.ahead += 0.5
        wall.now()
    assert wall.elapsed(since) == pytest.approx(6050)


def test_expired() -> None:
    """After a jump forward nothing expires before it would have; when all of that is over the wall clock rules."""
    clock = Clock()
    wall = Wall(clock, 0)
    clock.advance(1000)
    assert wall.expired(100) == 1000
    wall.ahead += 365 * 24 * HOUR
    assert wall.expired(100) == 1000
    clock.advance(99)
    assert wall.expired(100) == 1099
    clock.advance(1)
    assert wall.expired(100) == wall.now()
    wall.ahead -= HOUR
    assert wall.expired(100) == wall.now()


def test_injected() -> None:
    """Both clocks can be others."""
    clock = Clock()
    clock.advance(7)
    assert WallClock(clock.seconds, clock.seconds).now() == 7


def test_known_here_only() -> None:
    """The wall clock is read in one module; only vumi's own timestamps come from elsewhere."""
    package = Path(clocks.__file__).parents[1]
    readers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\btime\.time\(|\bdatetime\.now\(|\butcnow\(\)\.timestamp", path.read_text("utf-8"))
    }
    assert readers == {"messages/vumi.py", "net/clocks.py"}
