"""Declarations of many queues, over several channels."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from pika import frame, spec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from txamqp.client import Closed

from junebug_turn.amqp import declaration
from junebug_turn.amqp.declaration import SIDE_BY_SIDE, UNANSWERED, Declaring, Step
from junebug_turn.amqp.topology import Queue, Topology
from tests.support.broker_peer import ANSWERS, Peer, connected

AT_ONCE = 2 * SIDE_BY_SIDE
MANY = [Queue(f"q{number}") for number in range(SIDE_BY_SIDE * AT_ONCE)]


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declaration, "AT_ONCE", AT_ONCE)


def result(working: Deferred[Any]) -> list[Any]:
    found: list[Any] = []
    working.addBoth(found.append)
    return found


def calls_by_channel(peer: Peer) -> dict[int, list[Any]]:
    """Answer all calls; those of each channel, in their order."""
    channels: dict[int, list[Any]] = defaultdict(list)
    while calls := [value for value in peer.sent() if isinstance(value, frame.Method)]:
        assert len(calls) <= AT_ONCE + SIDE_BY_SIDE, "more calls at once than the broker answers in time"
        for call in calls:
            channels[call.channel_number].append(call.method)
            peer.send(ANSWERS[call.method.NAME], call.channel_number)
    return channels


def test_many_queues() -> None:
    """Many queues are declared over several channels, each once, after the exchanges and before its binding."""
    peer = connected()
    found = result(Deferred.fromCoroutine(Topology(MANY).declare(peer.protocol)))
    first, *others = calls_by_channel(peer).values()
    assert found == [None]
    assert [call.NAME for call in first] == [
        "Channel.Open",
        "Exchange.Declare",
        "Exchange.Unbind",
        "Exchange.Declare",
        "Channel.Close",
    ]
    assert len(others) == SIDE_BY_SIDE
    declared: list[str] = []
    for calls in others:
        opened, *steps, closed = calls
        assert (opened.NAME, closed.NAME) == ("Channel.Open", "Channel.Close")
        assert [step.NAME for step in steps] == ["Queue.Declare", "Queue.Bind"] * (len(MANY) // SIDE_BY_SIDE)
        names = [step.queue for step in steps]
        assert names[::2] == names[1::2]
        declared += names[::2]
    assert sorted(declared) == sorted(queue.name for queue in MANY)
    assert peer.protocol.free_channels == peer.protocol.channel_max


def test_refusals_side_by_side() -> None:
    """A refusal on one of several channels stops no other queue, and is a fault until it is mended."""
    peer = connected()
    topology = Topology(MANY)
    refused = spec.Channel.Close(403, "ACCESS_REFUSED", 0, 0)
    for refusals, faults in (({"Queue_Declare": refused}, len(MANY)), ({}, 0)):
        found = result(Deferred.fromCoroutine(topology.declare(peer.protocol)))
        calls = peer.answer(**refusals)
        assert found == [None]
        declared = {call.queue for call in calls if call.NAME == "Queue.Declare"}
        assert declared == {queue.name for queue in MANY}
        assert len(topology.faults) == faults


def test_few_channels() -> None:
    """Where the broker's channel_max leaves one channel, many queues are declared over one."""
    peer = connected()
    peer.protocol.channel_max = len(peer.protocol.channels)
    assert peer.protocol.free_channels == 1
    found = result(Deferred.fromCoroutine(Topology(MANY).declare(peer.protocol)))
    calls = peer.answer()
    assert found == [None]
    assert [call.NAME for call in calls].count("Channel.Open") == 1
    assert len([call for call in calls if call.NAME == "Queue.Bind"]) == len(MANY)


def test_a_connection_lost_side_by_side() -> None:
    """With the connection lost while several channels declare, declaring raises."""
    peer = connected()
    found = result(Deferred.fromCoroutine(Topology(MANY).declare(peer.protocol)))
    # The exchange's channel is opened, used and closed; then the others are opened.
    for _ in range(4):
        for call in [value for value in peer.sent() if isinstance(value, frame.Method)]:
            peer.send(ANSWERS[call.method.NAME], call.channel_number)
    assert {method.NAME for method in peer.methods()} == {"Queue.Declare", "Queue.Bind"}
    peer.lose(ConnectionLost())
    assert found[0].check(Closed)


@pytest.mark.parametrize("number", [UNANSWERED, 4 * UNANSWERED])
@pytest.mark.parametrize("refusal", [None, spec.Channel.Close(406, "PRECONDITION_FAILED", 50, 10)])
def test_unanswered(number: int, refusal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many declarations that are made at once the broker answers the last one only; where it refuses one of them,
    each is made with an answer, and those that follow the refused one are declared too."""
    monkeypatch.setattr(declaration, "AT_ONCE", 2 * UNANSWERED)
    queues = [Queue(f"q{number}", bound=False) for number in range(number)]
    peer = connected()
    topology = Topology(queues)
    for _ in range(2):
        found = result(Deferred.fromCoroutine(topology.declare(peer.protocol)))
        refusals = {} if refusal is None else {"Queue_Declare": refusal}
        calls = [call for call in peer.answer(**refusals) if call.NAME == "Queue.Declare"]
        assert found == [None]
        assert {call.queue for call in calls} == {queue.name for queue in queues}
        answered = {call.queue for call in calls if not call.nowait}
        if refusal is None:
            assert len(answered) == number // UNANSWERED
        else:
            assert answered == {queue.name for queue in queues}
    assert not topology.faults


def test_no_answer() -> None:
    """Without an answer to one of many calls in time, the connection is aborted."""
    peer = connected()

    async def refused(refusal: Exception) -> None:
        raise AssertionError

    steps = [Step(lambda channel: channel.queue_declare(queue="q"), lambda ok: None, refused)] * 3
    found = result(Deferred.fromCoroutine(Declaring(peer.protocol).each(steps)))
    peer.send(ANSWERS["Channel.Open"], peer.opened())
    peer.clock.advance(9)
    assert not found
    peer.clock.advance(2)
    assert found[0].check(Closed)
    assert peer.protocol.closed
