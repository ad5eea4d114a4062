"""Declaring queues that are there already, in another form, or not allowed; and counting their messages."""

from __future__ import annotations

from typing import Any

import pytest
from pika import spec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from txamqp.client import Closed

from junebug_turn.amqp.topology import Queue, Topology, count, declare
from tests.support.broker_peer import Peer, answer_to, connected


def result(working: Deferred[Any]) -> list[Any]:
    found: list[Any] = []
    working.addBoth(found.append)
    return found


def declaring(peer: Peer, *queues: Queue, **refusals: Any) -> tuple[list[Any], list[Any]]:
    """The calls that declaring makes, and its result."""
    found = result(Deferred.fromCoroutine(declare(peer.protocol, queues)))
    return peer.answer(**refusals), found


def test_what_is_declared() -> None:
    """The exchanges are direct, the queues durable, each bound by its name unless it is our own, with arguments; what
    finds no queue to return to goes to another exchange."""
    ours = Queue("a.retry.30s", bound=False, arguments={"x-message-ttl": 30000})
    calls, found = declaring(connected(), Queue("a", returns=True), ours)
    assert [call.NAME for call in calls] == [
        "Channel.Open",
        "Exchange.Declare",
        "Exchange.Unbind",
        "Exchange.Declare",
        "Queue.Declare",
        "Queue.Bind",
        "Queue.Bind",
        "Queue.Declare",
        "Channel.Close",
    ]
    _, exchange, _, returning, first, bind, bind_return, second, _ = calls
    assert (exchange.exchange, exchange.type, exchange.durable) == ("vumi", "direct", True)
    assert (returning.exchange, returning.type, returning.durable) == ("junebug-turn.return", "direct", True)
    assert returning.arguments == {"alternate-exchange": "junebug-turn.unroutable"}
    assert (first.queue, first.durable, first.arguments) == ("a", True, {})
    assert (bind.queue, bind.exchange, bind.routing_key) == ("a", "vumi", "a")
    assert (bind_return.queue, bind_return.exchange) == ("a", "junebug-turn.return")
    assert bind_return.routing_key == "a"
    assert (second.queue, second.arguments) == ("a.retry.30s", {"x-message-ttl": 30000})
    assert found == [None]


def test_a_refusal_stops_no_other() -> None:
    """A queue with other properties (406) is used as it is; each refusal takes the channel, and another is opened."""
    refused = spec.Channel.Close(406, "PRECONDITION_FAILED", 0, 0)
    calls, found = declaring(connected(), Queue("a"), Queue("b"), Queue_Declare=refused)
    assert [call.queue for call in calls if call.NAME == "Queue.Declare"] == ["a", "b"]
    assert [call.queue for call in calls if call.NAME == "Queue.Bind"] == ["a", "b"]
    assert [call.NAME for call in calls].count("Channel.Open") == 3
    assert found == [None]


def test_a_binding_that_is_refused() -> None:
    """A queue that can't be bound stops no other."""
    refused = spec.Channel.Close(403, "ACCESS_REFUSED", 0, 0)
    calls, found = declaring(connected(), Queue("a"), Queue("b"), Queue_Bind=refused)
    assert [call.queue for call in calls if call.NAME == "Queue.Declare"] == ["a", "b"]
    assert found == [None]


def test_a_lost_connection() -> None:
    """With the connection lost, declaring raises."""
    peer = connected()
    found = result(Deferred.fromCoroutine(declare(peer.protocol, [Queue("a")])))
    peer.lose(ConnectionLost())
    assert found[0].check(Closed)


def test_counting() -> None:
    """A queue's messages and consumers are asked for passively; one that is not there is left out."""
    peer = connected()
    found = result(Deferred.fromCoroutine(count(peer.protocol, [Queue("a"), Queue("b")])))
    calls = peer.answer()
    assert all(call.passive for call in calls if call.NAME == "Queue.Declare")
    assert found == [{"a": (3, 1), "b": (3, 1)}]
    found = result(Deferred.fromCoroutine(count(peer.protocol, [Queue("a")])))
    peer.answer(Queue_Declare=spec.Channel.Close(404, "NOT_FOUND", 0, 0))
    assert found == [{}]


def test_a_queue_limit() -> None:
    """A virtual host that is full is named as such: the queue that it has no room for is a fault, and logged once."""
    peer = connected()
    topology = Topology([Queue("a", bound=False)])
    text = "PRECONDITION_FAILED - cannot declare queue 'a': queue limit in vhost 'v' (5) is reached"
    refused = spec.Channel.Close(406, text, 50, 10)
    with capturedLogs() as logs:
        for _ in range(2):
            found = result(Deferred.fromCoroutine(topology.declare(peer.protocol)))
            peer.answer(Queue_Declare=refused)
            assert found == [None]
    assert topology.faults == {"queue a": f"406 {text}"}
    assert [log["log_format"] for log in logs] == ["The {what} can't be declared: {why}"]
    found = result(Deferred.fromCoroutine(topology.declare(peer.protocol)))
    peer.answer()
    assert not topology.faults


@pytest.mark.parametrize("makes", ["classic", "quorum", "none"])
def test_the_type_of_the_virtual_host(makes: str) -> None:
    """A queue has its further arguments where the virtual host makes it a quorum queue, which is found out once on a
    connection, by a queue that is deleted again; not where no such queue may be made.  A transport's queue does not
    wait for that."""
    ours = Queue("d", bound=False, quorum_arguments={"x-overflow": "reject-publish"})
    topology = Topology([ours, Queue("t")])
    refused = spec.Channel.Close(406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type'", 50, 10)
    full = spec.Channel.Close(406, "PRECONDITION_FAILED - queue limit in vhost 'v' (5) is reached", 50, 10)

    def declare_ok(call: Any) -> Any:
        if call.queue in ("d", "t") or makes == "classic":
            return answer_to(call)
        if makes == "none":
            return full
        return refused if call.arguments.get("x-queue-type") == "classic" else answer_to(call)

    for peer in (connected(), connected()):
        asked = []
        for first in (True, False):
            found = result(Deferred.fromCoroutine(topology.declare(peer.protocol)))
            calls = peer.answer(Queue_Declare=declare_ok)
            assert found == [None]
            declared = [call for call in calls if call.NAME == "Queue.Declare"]
            found_out = [call.queue for call in declared if call.queue not in ("d", "t")]
            names = [call.queue for call in declared]
            assert names == (["t", *found_out, "d"] if first else ["d", "t"])
            asked += found_out
            deleted = [call.queue for call in calls if call.NAME == "Queue.Delete"]
            assert makes == "none" or deleted == list(dict.fromkeys(found_out))
            further = {"x-overflow": "reject-publish"} if makes == "quorum" else {}
            assert [call.arguments for call in declared if call.queue == "d"] == [further]
        assert len(asked) == (1 if makes == "none" else 2)
        assert all(queue.startswith("junebug-turn.type.") for queue in asked)
        peer.protocol.connectionLost(Failure(ConnectionLost()))


def test_a_permission_to_write() -> None:
    """Whether the user may write to an exchange is asked before the first message, by the removal of a binding that
    nobody has; another refusal of that says nothing about the permission."""
    peer = connected()
    topology = Topology([Queue("d", bound=False, fanout=True)])
    for code, text, missing in ((403, "ACCESS_REFUSED", ["vumi", "d"]), (404, "NOT_FOUND", [])):
        found = result(Deferred.fromCoroutine(topology.declare(peer.protocol)))
        calls = peer.answer(Exchange_Unbind=spec.Channel.Close(code, text, 40, 40))
        unbind = [call for call in calls if call.NAME == "Exchange.Unbind"]
        assert [(call.source, call.destination) for call in unbind] == [("vumi", "vumi"), ("vumi", "d")]
        assert {call.routing_key for call in unbind} == {"junebug-turn.no-such-queue"}
        assert found == [None]
        assert list(topology.faults) == [f"permission to write to the exchange {name}" for name in missing]


def test_what_is_there_is_no_fault() -> None:
    """What the user may not declare, but is there, or has other properties, is used."""
    peer = connected()
    topology = Topology([Queue("a", bound=False)])
    found = result(Deferred.fromCoroutine(topology.declare(peer.protocol)))
    refused = spec.Channel.Close(403, "ACCESS_REFUSED", 40, 10)
    peer.answer(Exchange_Declare=refused)
    assert found == [None]
    refusal = "403 ACCESS_REFUSED"
    assert topology.faults == {"exchange vumi": refusal, "exchange junebug-turn.return": refusal}
    found = result(Deferred.fromCoroutine(topology.declare(peer.protocol)))
    peer.answer(Queue_Declare=spec.Channel.Close(406, "PRECONDITION_FAILED - inequivalent arg", 50, 10))
    assert not topology.faults


def test_some_queues() -> None:
    """A fault of a queue that is declared again, alone, is a fault until it is mended; others stay as they were."""
    peer = connected()
    topology = Topology([Queue("a", bound=False), Queue("b", bound=False)])
    refused = spec.Channel.Close(403, "ACCESS_REFUSED", 0, 0)
    for work, refusals, faults in (
        (topology.declare(peer.protocol), {"Queue_Declare": refused}, {"queue a", "queue b"}),
        (topology.extend(peer.protocol, [Queue("a", bound=False)]), {}, {"queue b"}),
    ):
        found = result(Deferred.fromCoroutine(work))
        peer.answer(**refusals)
        assert found == [None]
        assert set(topology.faults) == faults


@pytest.mark.parametrize("refused", [None, spec.Channel.Close(403, "ACCESS_REFUSED", 0, 0)])
def test_many_queues(refused: Any) -> None:
    """Very many queues are declared without waiting for each; a binding that is refused stops no other queue."""
    queues = [Queue(f"q{number}") for number in range(300)]
    peer = connected()
    found = result(Deferred.fromCoroutine(declare(peer.protocol, queues)))
    declared: set[str] = set()
    closed: set[int] = set()
    turns = 0
    while not found:
        turns += 1
        for call in peer.sent():
            name, channel = call.method.NAME, call.channel_number
            if channel in closed:
                continue  # as a broker does
            if name == "Queue.Declare":
                declared.add(call.method.queue)
            if name == "Queue.Bind" and call.method.queue == "q150" and refused is not None:
                closed.add(channel)
                peer.send(refused, channel)
            elif (answer := answer_to(call.method)) is not None:
                peer.send(answer, channel)
    assert found == [None]
    assert declared == {queue.name for queue in queues}
    assert turns < (15 if refused is None else 300)


def test_a_thousand_wait() -> None:
    """However many users of the connections wait for the declaration, it is made once, and all go on."""
    peer = connected()
    topology = Topology([Queue("a")])
    waiting = [result(Deferred.fromCoroutine(topology.ensure(peer.protocol))) for _ in range(3000)]
    calls = peer.answer()
    assert [call.NAME for call in calls].count("Queue.Declare") == 1
    assert waiting == [[None]] * 3000


def test_those_that_wait_for_a_lost_connection() -> None:
    """When the connection is lost on which the declaration was under way, the next user declares on its own."""
    first, second = connected(), connected()
    topology = Topology([Queue("a")])
    lost = result(Deferred.fromCoroutine(topology.ensure(first.protocol)))
    waiting = [result(Deferred.fromCoroutine(topology.ensure(second.protocol))) for _ in range(3)]
    first.lose(ConnectionLost())
    assert lost[0].check(Closed)
    second.answer()
    assert waiting == [[None]] * 3
