"""Deduplication of requests by processes that share a store; each process is a deduplication of its own."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from junebug_turn.errors import AmqpConnectionError, CacheError, IdempotencyKeyReused, Unroutable
from junebug_turn.http.deduplication import Deduplication
from junebug_turn.http.shared_results import CLAIM_TIME, FLUSH_INTERVAL, RENEW_INTERVAL, SharedResults
from tests.support.claims import MemoryClaims
from tests.unit.http.test_deduplication import Work, result_of

WINDOW, TIMEOUT = 600.0, 100.0


class Processes:
    """Processes that share claims.

    :ivar repeats: how many requests were counted as repeats
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.claims = MemoryClaims(self.clock)
        self.repeats = 0

    def make(self, *, until_answered: bool = False) -> Deduplication:
        def count() -> None:
            self.repeats += 1

        shared = SharedResults(self.clock, self.claims, WINDOW, until_answered=until_answered)
        return Deduplication(self.clock, WINDOW, TIMEOUT, on_repeat=count, shared=shared)

    def advance(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(2 * seconds))


@pytest.fixture
def processes() -> Processes:
    return Processes()


@pytest.fixture
def work() -> Work:
    return Work()


def cancel(request: Deferred[bytes]) -> None:
    request.addErrback(lambda failure: failure.trap(CancelledError) and None)
    request.cancel()


def test_repeat_at_another_process(processes: Processes, work: Work) -> None:
    """A repeat at another process gets the result, also after a restart; a new request after the window does not."""
    processes.make().run(b"k", work)
    work.finish(b"id")
    assert result_of(processes.make().run(b"k", work)) == b"id"
    assert len(work.started) == processes.repeats == 1
    processes.clock.advance(WINDOW)
    processes.make().run(b"k", work)
    assert len(work.started) == 2


def test_at_the_same_moment(processes: Processes, work: Work) -> None:
    """Of two requests at the same moment at two processes one does the work, and the other waits for its result."""
    first, second = (processes.make().run(b"k", work) for _ in range(2))
    processes.advance(20)
    assert not second.called
    work.finish(b"id")
    processes.advance(1)
    assert (result_of(first), result_of(second)) == (b"id", b"id")
    assert len(work.started) == processes.repeats == 1


def test_wait_is_bounded(processes: Processes, work: Work) -> None:
    """A repeat waits for the other process no longer than the time of a request."""
    processes.make().run(b"k", work)
    repeat = processes.make().run(b"k", work)
    processes.advance(TIMEOUT)
    assert result_of(repeat).check(AmqpConnectionError)
    assert len(work.started) == 1


def test_other_content(processes: Processes, work: Work) -> None:
    """The same key with another content is an error, while the first runs at another process and afterwards."""
    processes.make().run(b"k", work, content=b"a")
    assert result_of(processes.make().run(b"k", work, content=b"b")).check(IdempotencyKeyReused)
    work.finish(b"id")
    assert result_of(processes.make().run(b"k", work, content=b"b")).check(IdempotencyKeyReused)
    assert (len(work.started), processes.repeats) == (1, 0)


def test_failure(processes: Processes, work: Work) -> None:
    """A failure is not stored: whoever waits at another process does the work, as does the next request."""
    first, second = (processes.make().run(b"k", work) for _ in range(2))
    work.started[0].errback(Unroutable("no queue"))
    assert result_of(first).check(Unroutable)
    processes.advance(1)
    assert len(work.started) == 2
    work.finish(b"id")
    assert result_of(second) == b"id"


def test_process_that_died(processes: Processes, work: Work) -> None:
    """The claim of a process that died is over after CLAIM_TIME; whoever waits for it does the work then."""
    # Its work never ends, and nothing renews the claim.
    dead = processes.make()
    dead.run(b"k", work)
    for call in processes.clock.getDelayedCalls():
        call.cancel()
    repeat = processes.make().run(b"k", work)
    processes.advance(CLAIM_TIME - 2)
    assert len(work.started) == 1
    processes.advance(3)
    assert len(work.started) == 2
    work.finish(b"id")
    assert result_of(repeat) == b"id"


def test_long_work(processes: Processes, work: Work) -> None:
    """What was handed to the broker is remembered until it is known what became of it: its claim is renewed beyond the
    time of the request, and a repeat at another process gets 503 until then, and then the result."""
    first = processes.make().run(b"k", work)
    work.publish(handed_over=True)
    processes.advance(TIMEOUT + 3 * CLAIM_TIME)
    assert result_of(first).check(AmqpConnectionError)
    repeat = processes.make().run(b"k", work)
    processes.advance(TIMEOUT)
    assert result_of(repeat).check(AmqpConnectionError)
    work.finish(b"id")
    assert result_of(processes.make().run(b"k", work)) == b"id"
    assert len(work.started) == 1


def test_withdrawn(processes: Processes, work: Work) -> None:
    """A message that was not handed over is withdrawn when the time is over, and the key is free."""
    first = processes.make().run(b"k", work)
    work.publish(handed_over=False)
    processes.advance(TIMEOUT)
    assert result_of(first).check(AmqpConnectionError)
    processes.make().run(b"k", work)
    assert len(work.started) == 2


def test_client_that_goes_away(processes: Processes, work: Work) -> None:
    """A client's message that only waits is withdrawn when it goes away, and the key is free at every process."""
    first = processes.make().run(b"k", work, withdraw_unawaited=True)
    work.publish(handed_over=False)
    cancel(first)
    processes.make().run(b"k", work)
    assert len(work.started) == 2


def test_store_away(processes: Processes, work: Work) -> None:
    """Without the store nothing is sent: the error is the store's."""
    processes.claims.away = True
    assert result_of(processes.make().run(b"k", work)).check(CacheError)
    assert not work.started


def test_store_away_after_the_work(processes: Processes, work: Work) -> None:
    """A message that was sent is answered, whether or not that can be stored."""
    request = processes.make().run(b"k", work)
    processes.claims.away = True
    work.finish(b"id")
    assert result_of(request) == b"id"


def test_no_timer_without_work(processes: Processes, work: Work) -> None:
    """Claims are renewed while there is work, and no longer."""
    processes.make().run(b"k", work)
    work.finish(b"id")
    processes.advance(RENEW_INTERVAL)
    assert processes.clock.getDelayedCalls() == []


class TestUntilAnswered:
    """Turn's webhooks: a result is known only until a client has it."""

    @pytest.fixture
    def processes(self) -> Processes:
        class Turn(Processes):
            def make(self, **_: Any) -> Deduplication:
                return super().make(until_answered=True)

        return Turn()

    def test_answered(self, processes: Processes, work: Work) -> None:
        """An identical webhook after an answer that was written is a new message, at whatever process."""
        one, other = processes.make(), processes.make()
        for process in (one, one, other):
            request = process.run(b"k", work)
            work.finish(b"id")
            assert result_of(request) == b"id"
            if process is not other and len(work.started) == 2:
                processes.clock.advance(FLUSH_INTERVAL)
        assert len(work.started) == 3

    def test_again_while_the_store_is_away(self, processes: Processes, work: Work) -> None:
        """An identical webhook right after an answer gets the store's error where that is away meanwhile."""
        process = processes.make()
        process.run(b"k", work)
        work.finish(b"id")
        processes.claims.away = True
        assert result_of(process.run(b"k", work)).check(CacheError)
        assert len(work.started) == 1

    def test_stop(self, processes: Processes, work: Work) -> None:
        """What was answered is in the store when that stops: an identical webhook after a restart is a new message."""
        processes.make().run(b"k", work)
        work.finish(b"id")
        Deferred.fromCoroutine(processes.claims.stop())
        assert processes.clock.getDelayedCalls() == []
        processes.make().run(b"k", work)
        assert len(work.started) == 2

    def test_unanswered(self, processes: Processes, work: Work) -> None:
        """One whose connection had gone away before its answer gets the first one's result at another process, once."""
        first = processes.make().run(b"k", work)
        cancel(first)
        work.finish(b"id")
        processes.clock.advance(WINDOW - 1)
        assert result_of(processes.make().run(b"k", work)) == b"id"
        assert len(work.started) == 1
        processes.clock.advance(FLUSH_INTERVAL)
        processes.make().run(b"k", work)
        assert len(work.started) == 2

    def test_at_the_same_moment(self, processes: Processes, work: Work) -> None:
        """Two at the same moment at two processes are one message; one that comes after the answer is a new one."""
        first, second = (processes.make().run(b"k", work) for _ in range(2))
        work.finish(b"id")
        assert result_of(first) == b"id"
        processes.advance(1)
        assert result_of(second) == b"id"
        assert len(work.started) == 1
        processes.make().run(b"k", work)
        assert len(work.started) == 2
