"""Deduplication of repeated requests: webhooks that come again, and requests with an Idempotency-Key."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from junebug_turn.errors import ApiUsageError, IdempotencyKeyReused
from junebug_turn.http.deduplication import Deduplication, read_idempotency_key


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
def deduplication(clock: Clock) -> Deduplication:
    return Deduplication(clock, 60, max_results=3)


@pytest.fixture
def work() -> Work:
    return Work()


def result_of(d: Deferred[bytes]) -> Any:
    results: list[Any] = []
    d.addBoth(results.append)
    return results[0] if results else None


def test_while_the_first_is_handled(deduplication: Deduplication, work: Work) -> None:
    """What comes again while the first is still being handled is answered with its result."""
    first, second = deduplication.run(b"k", work), deduplication.run(b"k", work)
    work.finish(b"id")
    assert (result_of(first), result_of(second)) == (b"id", b"id")
    assert len(work.started) == 1


def test_after_a_lost_connection(deduplication: Deduplication, work: Work, clock: Clock) -> None:
    """A webhook whose connection went away unanswered is, within the window, answered with its result."""
    first = deduplication.run(b"k", work)
    first.addErrback(lambda failure: failure.trap(CancelledError) and None)
    first.cancel()
    work.finish(b"id")
    clock.advance(59)
    assert result_of(deduplication.run(b"k", work)) == b"id"
    assert len(work.started) == 1


def test_after_the_window(deduplication: Deduplication, work: Work, clock: Clock) -> None:
    """After the window the same bytes are a new message."""
    deduplication.run(b"k", work)
    work.finish(b"id")
    clock.advance(60)
    deduplication.run(b"k", work)
    assert len(work.started) == 2


def test_after_an_answer(deduplication: Deduplication, work: Work) -> None:
    """An identical webhook after an answer that was written is a new message."""
    deduplication.run(b"k", work)
    work.finish(b"id")
    deduplication.forget(b"k")
    deduplication.run(b"k", work)
    assert len(work.started) == 2


def test_failure_reaches_all(deduplication: Deduplication, work: Work) -> None:
    """A failure reaches everyone who waits, and the next one starts anew."""
    waiting = [deduplication.run(b"k", work) for _ in range(2)]
    work.started[-1].errback(RuntimeError("no"))
    for d in waiting:
        assert result_of(d).check(RuntimeError)
    deduplication.run(b"k", work)
    assert len(work.started) == 2


def test_window_zero(clock: Clock, work: Work) -> None:
    """0 switches it off: every webhook is a message, withdrawn when its request goes away."""
    deduplication = Deduplication(clock, 0)
    first = deduplication.run(b"k", work)
    deduplication.run(b"k", work)
    assert len(work.started) == 2
    first.addErrback(lambda failure: failure.trap(CancelledError) and None)
    first.cancel()
    assert work.started[0].called


def test_bounded(deduplication: Deduplication, work: Work) -> None:
    """At most max_kept unanswered results are kept; the oldest go first."""
    for key in (b"1", b"2", b"3", b"4"):
        deduplication.run(key, work)
        work.finish(b"id")
    assert len(deduplication) == 3
    deduplication.run(b"4", work)
    assert len(work.started) == 4
    deduplication.run(b"1", work)
    assert len(work.started) == 5


def test_bounded_bytes(clock: Clock, work: Work) -> None:
    """The results that are kept have at most max_bytes, the oldest go first."""
    deduplication = Deduplication(clock, 60, max_bytes=100_000)
    for key in (b"1", b"2", b"3"):
        deduplication.run(key, work)
        work.finish(b"x" * 40_000)
    assert len(deduplication) == 2
    deduplication.run(b"1", work)
    assert len(work.started) == 4
    work.finish(b"x" * 100_000)
    assert len(deduplication) == 0


def test_other_content(deduplication: Deduplication, work: Work) -> None:
    """A key that comes with another content is refused, while the first runs and when it is over."""
    first = deduplication.run(b"k", work, content=b"a")
    other = deduplication.run(b"k", work, content=b"b")
    assert result_of(other).check(IdempotencyKeyReused)
    work.finish(b"id")
    assert result_of(deduplication.run(b"k", work, content=b"b")).check(IdempotencyKeyReused)
    assert (result_of(first), result_of(deduplication.run(b"k", work, content=b"a"))) == (b"id", b"id")
    assert len(work.started) == 1


@pytest.mark.parametrize("allowed", [True, False])
def test_withdrawn(deduplication: Deduplication, work: Work, allowed: bool) -> None:
    """When nobody waits any more, work that can be withdrawn is, and a repeat starts anew; other work goes on."""
    waiting = [deduplication.run(b"k", work, withdraw=lambda: allowed) for _ in range(2)]
    for d in waiting:
        assert not work.started[0].called
        d.addErrback(lambda failure: failure.trap(CancelledError) and None)
        d.cancel()
    assert work.started[0].called == allowed
    if not allowed:
        work.finish(b"id")
    repeated = deduplication.run(b"k", work)
    assert len(work.started) == 1 + allowed
    assert result_of(repeated) == (None if allowed else b"id")


def test_idempotency_key() -> None:
    """The key is that of the only header; a request without one has none."""
    assert read_idempotency_key([]) is None
    assert read_idempotency_key([b"a key: ~"]) == b"a key: ~"
    assert read_idempotency_key([b"x" * 255]) == b"x" * 255


@pytest.mark.parametrize(
    "headers", [[b"a", b"a"], [b""], [b"x" * 256], [b"a\tb"], [b"h\xc3\xa9"], [b"a\x7f"]]
)
def test_wrong_idempotency_key(headers: list[bytes]) -> None:
    """Two headers, and a key that is empty, too long or not printable ASCII, are refused."""
    with pytest.raises(ApiUsageError, match="Idempotency-Key"):
        read_idempotency_key(headers)
