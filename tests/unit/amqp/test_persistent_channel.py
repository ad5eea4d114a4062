"""A channel that is opened again, and the delays between two attempts."""

from __future__ import annotations

from typing import Any

import pytest
from pika import spec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost

from junebug_turn.amqp.channel import Channel
from junebug_turn.amqp.connection import AmqpProtocol
from junebug_turn.amqp.persistent_channel import Backoff, PersistentChannel, backoff
from tests.support.broker_peer import Peer, connected


class User(PersistentChannel):
    """Opens a channel and counts how often it is ready."""

    name = "testing"
    ready = 0
    stopped = False

    async def open(self, protocol: AmqpProtocol) -> Channel:
        channel = await protocol.open_channel()
        channel.listener = self
        return channel

    def opened(self) -> None:
        self.ready += 1

    def wanted(self) -> bool:
        return not self.stopped

    def cancelled(self) -> None:
        self._end("its consumer was cancelled")


class Bench:
    """A user that is served on a connection."""

    def __init__(self) -> None:
        self.peer: Peer = connected()
        self.user = User(self.peer.clock, lambda: 1.0)
        self.serving: Deferred[Any] = Deferred.fromCoroutine(self.user.serve(self.peer.protocol))

    def close(self) -> None:
        """Have the broker close the channel."""
        assert self.user.channel is not None
        self.peer.send(spec.Channel.Close(406, "PRECONDITION_FAILED", 0, 0), self.user.channel.id)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_is_opened_again(bench: Bench) -> None:
    """A channel that the broker closes is opened again after a delay, which grows as long as none holds."""
    for delay in (0.1, 0.2, 0.4):
        bench.peer.answer()
        assert bench.user.channel is not None
        bench.close()
        assert bench.user.channel is None
        bench.peer.answer()
        bench.peer.clock.advance(delay - 0.01)
        assert not bench.peer.methods()
        bench.peer.clock.advance(0.02)
    bench.peer.answer()
    assert bench.user.ready == 4


def test_a_channel_that_cannot_be_opened(bench: Bench) -> None:
    """A channel that the broker closes while it is opened is tried again."""
    bench.peer.send(spec.Channel.Close(504, "CHANNEL_ERROR", 0, 0), 1)
    bench.peer.sent()
    assert bench.user.ready == 0
    bench.peer.clock.advance(0.1)
    bench.peer.answer()
    assert bench.user.ready == 1


def test_its_use_may_end_before_it(bench: Bench) -> None:
    """A channel that is of no more use, though open, is closed before another is opened."""
    bench.peer.answer()
    bench.peer.send(spec.Basic.Cancel("t", True), 1)
    assert [method.NAME for method in bench.peer.answer()] == ["Channel.Close"]
    bench.peer.clock.advance(0.1)
    bench.peer.answer()
    assert bench.user.ready == 2


def test_the_end_of_the_connection(bench: Bench) -> None:
    """With its connection the work is over, and no timer is left."""
    bench.peer.answer()
    bench.peer.lose(ConnectionLost())
    assert bench.serving.called
    assert bench.user.channel is None
    assert not bench.peer.clock.getDelayedCalls()


def test_a_user_that_wants_no_more(bench: Bench) -> None:
    """A user that stops has no other channel."""
    bench.peer.answer()
    bench.user.stopped = True
    bench.close()
    assert bench.serving.called


def test_back_off() -> None:
    """Delays double from 0.1 s to 10 s, and the upper half of each is random."""
    assert [round(backoff(failures, lambda: 1.0), 3) for failures in range(9)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.6,
        3.2,
        6.4,
        10.0,
        10.0,
    ]
    assert backoff(0, lambda: 0.0) == 0.05
    assert backoff(10**6, lambda: 0.0) == 5.0


def test_what_held_long_counts_as_a_success() -> None:
    """Delays start anew after something that held for more than 10 s; what held less counts as a failure."""
    delays = Backoff(lambda: 1.0)
    assert [round(delays.after(lasted), 3) for lasted in (0, 0, 10, 11, 0)] == [0.1, 0.2, 0.4, 0.1, 0.2]
