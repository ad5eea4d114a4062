"""Deduplication of repeated requests: webhooks that come again, and requests with an Idempotency-Key."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from junebug_turn.errors import AmqpConnectionError, ApiUsageError, IdempotencyKeyReused, Unroutable
from junebug_turn.http.deduplication import Deduplication, OnPublish, read_idempotency_key


@define(eq=False)
class Handle:
    """A message on its way to the broker."""

    ended: Deferred[bytes]
    handed_over: bool
    abandoned: bool = False

    def withdraw(self) -> bool:
        self.abandoned = True
        if not self.handed_over:
            self.ended.cancel()
        return not self.handed_over


class Work:
    """Counts how often it is started; ``finish`` ends what was started last."""

    def __init__(self) -> None:
        self.started: list[Deferred[bytes]] = []
        self._publish: list[OnPublish] = []

    async def __call__(self, on_publish: OnPublish) -> bytes:
        self.started.append(Deferred())
        self._publish.append(on_publish)
        return await self.started[-1]

    def publish(self, *, handed_over: bool) -> Handle:
        handle = Handle(self.started[-1], handed_over)
        self._publish[-1](handle)
        return handle

    def finish(self, result: Any) -> None:
        self.started[-1].callback(result)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deduplication(clock: Clock) -> Deduplication:
    return Deduplication(clock, 60, 10, max_results=3)


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
    deduplication = Deduplication(clock, 0, 10)
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
    deduplication = Deduplication(clock, 60, 10, max_bytes=100_000)
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
    waiting = [deduplication.run(b"k", work, withdraw_unawaited=True) for _ in range(2)]
    work.publish(handed_over=not allowed)
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


def test_not_published_yet(deduplication: Deduplication, work: Work) -> None:
    """Work that has published nothing yet goes on without its request, so that a repeat gets its result."""
    first = deduplication.run(b"k", work, withdraw_unawaited=True)
    first.addErrback(lambda failure: failure.trap(CancelledError) and None)
    first.cancel()
    work.finish(b"id")
    assert result_of(deduplication.run(b"k", work)) == b"id"
    assert len(work.started) == 1


@pytest.mark.parametrize("published", [False, True])
def test_work_that_takes_too_long(
    deduplication: Deduplication, work: Work, clock: Clock, published: bool
) -> None:
    """Work whose message was not handed to the broker in time is cancelled: all its requests fail with that, and a
    repeat starts anew."""
    first = deduplication.run(b"k", work)
    if published:
        work.publish(handed_over=False)
    clock.advance(9)
    second = deduplication.run(b"k", work)
    clock.advance(1)
    for waiting in (first, second):
        assert (
            result_of(waiting).getErrorMessage() == "the broker did not confirm the message within 10 seconds"
        )
    assert work.started[0].called
    deduplication.run(b"k", work)
    assert len(work.started) == 2


@pytest.mark.parametrize("gone", [False, True])
def test_unknown_outcome(deduplication: Deduplication, work: Work, clock: Clock, gone: bool) -> None:
    """What was handed to the broker is remembered until it is known what became of it: repeats wait for the outcome,
    fail again while it is unknown, and get the result when it is confirmed."""
    first = deduplication.run(b"k", work, withdraw_unawaited=True)
    handle = work.publish(handed_over=True)
    if gone:
        first.addErrback(lambda failure: failure.trap(CancelledError) and None)
        first.cancel()
    clock.advance(10)
    if not gone:
        assert result_of(first).check(AmqpConnectionError)
    assert handle.abandoned, "the broker service counts messages that nobody waits for"
    clock.advance(1000)
    second = deduplication.run(b"k", work, withdraw_unawaited=True)
    clock.advance(9)
    assert not second.called
    clock.advance(1)
    assert result_of(second).check(AmqpConnectionError)
    third = deduplication.run(b"k", work)
    work.finish(b"id")
    assert result_of(third) == b"id"
    clock.advance(59)
    assert result_of(deduplication.run(b"k", work)) == b"id"
    assert len(work.started) == 1
    assert not clock.getDelayedCalls()


def test_known_failure(deduplication: Deduplication, work: Work, clock: Clock) -> None:
    """When it is known that the broker did not take the message, a repeat starts anew."""
    first = deduplication.run(b"k", work)
    work.publish(handed_over=True)
    clock.advance(10)
    assert result_of(first).check(AmqpConnectionError)
    work.started[0].errback(Unroutable("no queue"))
    deduplication.run(b"k", work)
    assert len(work.started) == 2


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
