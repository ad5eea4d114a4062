"""Webhooks that come again."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from junebug_turn.turn.webhooks import Webhooks


class Work:
    """Counts how often it is started; ``finish`` ends what was started last."""

    def __init__(self) -> None:
        self.started: list[Deferred[str]] = []

    def __call__(self) -> Deferred[str]:
        self.started.append(Deferred())
        return self.started[-1]

    def finish(self, result: Any) -> None:
        self.started[-1].callback(result)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def webhooks(clock: Clock) -> Webhooks[str]:
    return Webhooks(clock, 60, max_remembered=3)


@pytest.fixture
def work() -> Work:
    return Work()


def result_of(d: Deferred[str]) -> Any:
    results: list[Any] = []
    d.addBoth(results.append)
    return results[0] if results else None


def test_while_the_first_is_handled(webhooks: Webhooks[str], work: Work) -> None:
    """A webhook that comes again while the first is still being handled is answered with the first one's id."""
    first, second = webhooks.run(b"k", work), webhooks.run(b"k", work)
    work.finish("id")
    assert (result_of(first), result_of(second)) == ("id", "id")
    assert len(work.started) == 1


def test_after_a_lost_connection(webhooks: Webhooks[str], work: Work, clock: Clock) -> None:
    """A webhook whose connection went away unanswered is, within the window, answered with the first one's id."""
    first = webhooks.run(b"k", work)
    first.addErrback(lambda failure: failure.trap(CancelledError) and None)
    first.cancel()
    work.finish("id")
    clock.advance(59)
    assert result_of(webhooks.run(b"k", work)) == "id"
    assert len(work.started) == 1


def test_after_the_window(webhooks: Webhooks[str], work: Work, clock: Clock) -> None:
    """After the window the same bytes are a new message."""
    webhooks.run(b"k", work)
    work.finish("id")
    clock.advance(60)
    webhooks.run(b"k", work)
    assert len(work.started) == 2


def test_after_an_answer(webhooks: Webhooks[str], work: Work) -> None:
    """An identical webhook after an answer that was written is a new message."""
    webhooks.run(b"k", work)
    work.finish("id")
    webhooks.answered(b"k")
    webhooks.run(b"k", work)
    assert len(work.started) == 2


def test_failure_reaches_all(webhooks: Webhooks[str], work: Work) -> None:
    """A failure reaches everyone who waits, and the next one starts anew."""
    waiting = [webhooks.run(b"k", work) for _ in range(2)]
    work.started[-1].errback(RuntimeError("no"))
    for d in waiting:
        assert result_of(d).check(RuntimeError)
    webhooks.run(b"k", work)
    assert len(work.started) == 2


def test_window_zero(clock: Clock, work: Work) -> None:
    """0 switches it off: every webhook is a message, withdrawn when its request goes away."""
    webhooks: Webhooks[str] = Webhooks(clock, 0)
    first = webhooks.run(b"k", work)
    webhooks.run(b"k", work)
    assert len(work.started) == 2
    first.addErrback(lambda failure: failure.trap(CancelledError) and None)
    first.cancel()
    assert work.started[0].called


def test_other_bytes(webhooks: Webhooks[str], work: Work) -> None:
    """Other bytes are another message; one other space is enough."""
    webhooks.run(Webhooks.key(b'{"a":1}'), work)
    webhooks.run(Webhooks.key(b'{"a": 1}'), work)
    assert len(work.started) == 2


def test_bounded(webhooks: Webhooks[str], work: Work) -> None:
    """At most max_remembered unanswered results are kept; the oldest go first."""
    for key in (b"1", b"2", b"3", b"4"):
        webhooks.run(key, work)
        work.finish("id")
    assert len(webhooks._unanswered) == 3
    webhooks.run(b"4", work)
    assert len(work.started) == 4
    webhooks.run(b"1", work)
    assert len(work.started) == 5
