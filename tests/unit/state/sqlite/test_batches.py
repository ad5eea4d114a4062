"""Work that a thread does in batches; the pool is adbapi's, with a thread and a SQLite database of its own."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_twisted
from attrs import define, field
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.python.failure import Failure

from junebug_turn.state.sqlite.batches import Batches
from tests.support.daemon import until
from tests.support.store_harness import ThreadedClock

TIMEOUT = 2.0


@define
class Visited:
    """Batches of questions, whose answers SQLite gives.

    :ivar visits: the questions of each visit of the thread
    :ivar go_on: while it is clear a visit waits in the thread
    """

    batches: Batches[str] = field(init=False)
    visits: list[list[str]] = field(factory=list)
    go_on: threading.Event = field(factory=threading.Event)
    clock: ThreadedClock = field(factory=ThreadedClock)

    def visit(self, cursor: Any, works: list[str]) -> list[Any]:
        self.visits.append(works)
        assert self.go_on.wait(10)
        if "all" in works:
            raise ValueError("the fault of all")
        return [
            Failure(KeyError(work)) if work == "one" else cursor.execute("SELECT ?", (work,)).fetchone()[0]
            for work in works
        ]


@pytest_twisted.async_yield_fixture
async def visited() -> AsyncIterator[Visited]:
    it = Visited()
    it.go_on.set()
    pool = ConnectionPool("sqlite3", ":memory:", check_same_thread=False, cp_min=1, cp_max=1)
    it.batches = Batches(it.clock, pool, TIMEOUT, it.visit)
    yield it
    it.go_on.set()
    if pool.running:
        await it.batches.stop()
    assert it.clock.getDelayedCalls() == []


async def results(*deferreds: Deferred[Any]) -> list[Any]:
    """Each one's result, or the type of its exception."""
    found = await DeferredList(deferreds, consumeErrors=True)
    return [result if good else result.type for good, result in found]


@pytest_twisted.ensureDeferred
async def test_one_visit_for_a_turn(visited: Visited) -> None:
    """What is asked for together is done in one visit of the thread, in order, and each has its own result."""
    assert await results(*map(visited.batches.add, "abc")) == ["a", "b", "c"]
    assert visited.visits == [["a", "b", "c"]]


@pytest_twisted.ensureDeferred
async def test_what_comes_during_a_visit(visited: Visited) -> None:
    """What is asked for while the thread is at work shares the next visit."""
    visited.go_on.clear()
    waiting = [visited.batches.add("first")]
    await until(lambda: visited.visits)
    waiting += map(visited.batches.add, "bc")
    visited.go_on.set()
    assert await results(*waiting) == ["first", "b", "c"]
    assert visited.visits == [["first"], ["b", "c"]]


@pytest_twisted.ensureDeferred
async def test_cancelled(visited: Visited) -> None:
    """What is cancelled before its batch begins is not done; later its result is dropped, the others have theirs."""
    withdrawn, kept = visited.batches.add("withdrawn"), visited.batches.add("kept")
    withdrawn.cancel()
    assert await results(withdrawn, kept) == [CancelledError, "kept"]
    visited.go_on.clear()
    late, other = visited.batches.add("late"), visited.batches.add("other")
    await until(lambda: len(visited.visits) == 2)
    late.cancel()
    visited.go_on.set()
    assert await results(late, other) == [CancelledError, "other"]
    assert visited.visits == [["kept"], ["late", "other"]]


@pytest_twisted.ensureDeferred
async def test_timeout(visited: Visited) -> None:
    """While the thread hangs what waits fails in time, what it has not begun is not done, and then it goes on."""
    visited.go_on.clear()
    begun = visited.batches.add("begun")
    await until(lambda: visited.visits)
    visited.clock.advance(TIMEOUT / 2)
    behind = [visited.batches.add("behind"), visited.batches.add("too")]
    visited.clock.advance(TIMEOUT / 2)
    assert begun.called
    assert not behind[0].called
    visited.clock.advance(TIMEOUT / 2)
    assert await results(begun, *behind) == [DeferredTimeout] * 3
    next_one = visited.batches.add("next")
    visited.go_on.set()
    assert await results(next_one) == ["next"]
    assert visited.visits == [["begun"], ["next"]]


@pytest_twisted.ensureDeferred
async def test_all_withdrawn(visited: Visited) -> None:
    """A batch of which nothing is left needs no visit, and what is asked for next is done."""
    waiting = visited.batches.add("withdrawn")
    waiting.cancel()
    assert await results(waiting, visited.batches.add("next")) == [CancelledError, "next"]
    waiting = visited.batches.add("withdrawn")
    waiting.cancel()
    assert await results(waiting) == [CancelledError]
    await visited.batches.stop()
    assert visited.visits == [["next"]]


@pytest_twisted.ensureDeferred
async def test_failures(visited: Visited) -> None:
    """A work's own failure is its own; an exception of the visit is the failure of each, handled by each."""
    handled: list[type] = []

    def handle(failure: Failure) -> str:
        handled.append(failure.type)
        return "handled"

    asked: Callable[[str], Deferred[Any]] = lambda work: visited.batches.add(work).addErrback(handle)  # noqa: E731
    assert await results(asked("a"), asked("one"), asked("b")) == ["a", "handled", "b"]
    assert await results(asked("a"), asked("all"), asked("b")) == ["handled"] * 3
    assert handled == [KeyError, ValueError, ValueError, ValueError]
    assert await results(asked("again")) == ["again"]


@pytest_twisted.ensureDeferred
async def test_asked_by_a_result(visited: Visited) -> None:
    """What a result leads to is done too, and stopping waits for all of it."""
    done: list[str] = []
    first = visited.batches.add("first").addCallback(lambda _: visited.batches.add("second"))
    first.addCallback(done.append)
    await visited.batches.stop()
    assert done == ["second"]
