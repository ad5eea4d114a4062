"""Work that is done once, for webhooks that come again and requests with an Idempotency-Key."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from junebug_turn.errors import IdempotencyKeyReused
from junebug_turn.http.deduplication import Once


class Work:
    """Counts how often it is started; ``finish`` ends what was started last."""

    def __init__(self) -> None:
        self.started: list[Deferred[bytes]] = []

    def __call__(self) -> Deferred[bytes]:
        self.started.append(Deferred())
        return self.started[-1]

    def finish(self, result: Any) -> None:
        self.started[-1].callback(result)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def once(clock: Clock) -> Once:
    return Once(clock, 60, max_kept=3)


@pytest.fixture
def work() -> Work:
    return Work()


def result_of(d: Deferred[bytes]) -> Any:
    results: list[Any] = []
    d.addBoth(results.append)
    return results[0] if results else None


def test_while_the_first_is_handled(once: Once, work: Work) -> None:
    """What comes again while the first is still being handled is answered with its result."""
    first, second = once.run(b"k", work), once.run(b"k", work)
    work.finish(b"id")
    assert (result_of(first), result_of(second)) == (b"id", b"id")
    assert len(work.started) == 1


def test_after_a_lost_connection(once: Once, work: Work, clock: Clock) -> None:
    """A webhook whose connection went away unanswered is, within the window, answered with its result."""
    first = once.run(b"k", work)
    first.addErrback(lambda failure: failure.trap(CancelledError) and None)
    first.cancel()
    work.finish(b"id")
    clock.advance(59)
    assert result_of(once.run(b"k", work)) == b"id"
    assert len(work.started) == 1


def test_after_the_window(once: Once, work: Work, clock: Clock) -> None:
    """After the window the same bytes are a new message."""
    once.run(b"k", work)
    work.finish(b"id")
    clock.advance(60)
    once.run(b"k", work)
    assert len(work.started) == 2


def test_after_an_answer(once: Once, work: Work) -> None:
    """An identical webhook after an answer that was written is a new message."""
    once.run(b"k", work)
    work.finish(b"id")
    once.forget(b"k")
    once.run(b"k", work)
    assert len(work.started) == 2


def test_failure_reaches_all(once: Once, work: Work) -> None:
    """A failure reaches everyone who waits, and the next one starts anew."""
    waiting = [once.run(b"k", work) for _ in range(2)]
    work.started[-1].errback(RuntimeError("no"))
    for d in waiting:
        assert result_of(d).check(RuntimeError)
    once.run(b"k", work)
    assert len(work.started) == 2


def test_window_zero(clock: Clock, work: Work) -> None:
    """0 switches it off: every webhook is a message, withdrawn when its request goes away."""
    once: Once = Once(clock, 0)
    first = once.run(b"k", work)
    once.run(b"k", work)
    assert len(work.started) == 2
    first.addErrback(lambda failure: failure.trap(CancelledError) and None)
    first.cancel()
    assert work.started[0].called


def test_bounded(once: Once, work: Work) -> None:
    """At most max_kept unanswered results are kept; the oldest go first."""
    for key in (b"1", b"2", b"3", b"4"):
        once.run(key, work)
        work.finish(b"id")
    assert len(once) == 3
    once.run(b"4", work)
    assert len(work.started) == 4
    once.run(b"1", work)
    assert len(work.started) == 5


def test_bounded_bytes(clock: Clock, work: Work) -> None:
    """The results that are kept have at most max_bytes, the oldest go first."""
    once = Once(clock, 60, max_bytes=100_000)
    for key in (b"1", b"2", b"3"):
        once.run(key, work)
        work.finish(b"x" * 40_000)
    assert len(once) == 2
    once.run(b"1", work)
    assert len(work.started) == 4
    work.finish(b"x" * 100_000)
    assert len(once) == 0


def test_other_content(once: Once, work: Work) -> None:
    """A key that comes with another content is refused, while the first runs and when it is over."""
    first = once.run(b"k", work, content=b"a")
    other = once.run(b"k", work, content=b"b")
    assert result_of(other).check(IdempotencyKeyReused)
    work.finish(b"id")
    assert result_of(once.run(b"k", work, content=b"b")).check(IdempotencyKeyReused)
    assert (result_of(first), result_of(once.run(b"k", work, content=b"a"))) == (b"id", b"id")
    assert len(work.started) == 1


@pytest.mark.parametrize("allowed", [True, False])
def test_withdrawn(once: Once, work: Work, allowed: bool) -> None:
    """When nobody waits any more, work that can be withdrawn is, and a repeat starts anew; other work goes on."""
    waiting = [once.run(b"k", work, withdraw=lambda: allowed) for _ in range(2)]
    for d in waiting:
        assert not work.started[0].called
        d.addErrback(lambda failure: failure.trap(CancelledError) and None)
        d.cancel()
    assert work.started[0].called == allowed
    if not allowed:
        work.finish(b"id")
    repeated = once.run(b"k", work)
    assert len(work.started) == 1 + allowed
    assert result_of(repeated) == (None if allowed else b"id")
