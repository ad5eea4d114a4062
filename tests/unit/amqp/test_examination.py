"""Examination of a broker, which makes and changes nothing."""

from __future__ import annotations

from typing import Any

from pika import spec
from twisted.internet.defer import Deferred

from junebug_turn.amqp.examination import Examination, examine
from junebug_turn.amqp.topology import Queue
from tests.support.broker_peer import Peer, connected
from tests.unit.amqp.test_topology import result


def examining(peer: Peer, *queues: Queue, **answers: Any) -> tuple[list[Any], list[Any]]:
    """The calls that an examination makes, and its result."""
    found = result(Deferred.fromCoroutine(examine(peer.protocol, queues)))
    return peer.answer(**answers), found


def test_an_examination_of_what_is_there() -> None:
    """What is there is declared as it will be, which changes nothing, and a message that has no queue is written."""
    calls, found = examining(connected(), Queue("a"))
    assert [call.NAME for call in calls] == [
        "Channel.Open",
        "Exchange.Declare",
        "Exchange.Declare",
        "Exchange.Declare",
        "Exchange.Declare",
        "Queue.Declare",
        "Queue.Declare",
        "Exchange.Unbind",
        "Channel.Close",
        "Channel.Open",
        "Basic.Publish",
        "Basic.Qos",
        "Channel.Close",
    ]
    assert [call.passive for call in calls[1:7]] == [True, False] * 3
    publish = calls[10]
    assert (publish.exchange, publish.routing_key) == ("", "junebug-turn.no-such-queue")
    assert found == [Examination((), (), ())]


def test_an_examination_makes_nothing() -> None:
    """What is not there is only looked for."""
    missing = spec.Channel.Close(404, "NOT_FOUND", 50, 10)
    calls, found = examining(connected(), Queue("a"), Queue_Declare=missing)
    assert [call.passive for call in calls if call.NAME == "Queue.Declare"] == [True]
    assert found == [Examination(("queue a",), (), ())]


def test_an_examination_without_permissions() -> None:
    """A message that the user may not write to the default exchange is told by its channel's end."""
    refused = spec.Channel.Close(403, "ACCESS_REFUSED", 60, 40)
    _, found = examining(connected(), Queue("a"), Basic_Qos=refused)
    assert found == [Examination((), (), ("amq.default",))]
    refused = spec.Channel.Close(403, "ACCESS_REFUSED", 40, 40)
    delay = Queue("d", bound=False, fanout=True)
    calls, found = examining(connected(), delay, Exchange_Unbind=refused)
    assert [call.destination for call in calls if call.NAME == "Exchange.Unbind"] == ["vumi", "d"]
    assert found == [Examination((), (), ("vumi", "d"))]
