"""The AMQP service: its two connections, its state, and the end of consuming."""

from __future__ import annotations

from typing import Any

import pytest
from pika import frame, spec
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock

from junebug_turn.amqp import reconnecting
from junebug_turn.amqp.broker import Broker
from junebug_turn.amqp.delivery import Delivery
from junebug_turn.amqp.options import AmqpOptions
from junebug_turn.amqp.topology import MANY, QUIET, Queue
from junebug_turn.amqp.topology_checks import CHECK_INTERVAL, CHECKED_AT_ONCE, CHECKED_TOGETHER, TURNS
from junebug_turn.errors import AmqpConnectionError
from tests.support.broker_peer import Peer


class Bench:
    """A service with one consumer, of "q", and the broker's sides of its connections, by their purpose."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.peers: dict[str, Peer] = {}
        self.broker = Broker(self.clock, AmqpOptions(), rng=lambda: 1.0)
        self.broker.declare(Queue("q"))
        self.broker.consume(Queue("q"), self.handle)
        self.handled: list[bytes] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        peer = Peer(factory.buildProtocol(None))
        self.peers[peer.protocol.properties["connection_name"].removeprefix("junebug-turn ")] = peer
        return succeed(peer.protocol)

    def start(self) -> list[Any]:
        """Start, and have the broker answer everything; returns the calls that it answered."""
        self.broker.startService()
        answered: list[Any] = []
        for peer in self.peers.values():
            peer.connect()
            answered += peer.answer()
        return answered

    async def handle(self, delivery: Delivery) -> None:
        self.handled.append(delivery.body)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr(reconnecting, "_endpoint", lambda reactor, options, trust_root: bench)
    return bench


def result(working: Deferred[Any]) -> list[Any]:
    found: list[Any] = []
    working.addBoth(found.append)
    return found


def test_its_state(bench: Bench) -> None:
    """The state tells of both connections, the publisher and each consumer."""
    away = {"connected": False, "publishing": False, "blocked": False, "consumers": {"q": False}}
    assert bench.broker.status() == away
    bench.start()
    assert set(bench.peers) == {"publishing", "consuming"}
    well = {"connected": True, "publishing": True, "blocked": False, "consumers": {"q": True}}
    assert bench.broker.status() == well
    bench.peers["publishing"].send(spec.Connection.Blocked("memory"))
    assert bench.broker.status() == well | {"blocked": True}
    bench.peers["publishing"].lose(ConnectionDone())
    assert bench.broker.status() == away | {"consumers": {"q": True}}


def test_pausing(bench: Bench) -> None:
    """A paused queue is named as such, and is no queue that should be consumed; consumers that are made later for it
    are paused, too."""
    bench.broker.declare(Queue("r"))
    bench.start()
    pausing = Deferred.fromCoroutine(bench.broker.pause(["q", "r"], True))
    bench.peers["consuming"].answer()
    assert pausing.called
    assert (bench.broker.status()["consumers"], bench.broker.status()["paused"]) == ({}, ["q"])
    bench.broker.consume(Queue("r"), bench.handle)
    answered = [method.NAME for method in bench.peers["consuming"].answer()]
    assert "Basic.Consume" not in answered
    assert bench.broker.status()["paused"] == ["q", "r"]
    Deferred.fromCoroutine(bench.broker.pause(["q"], False))
    assert [method.NAME for method in bench.peers["consuming"].answer()] == ["Basic.Consume"]
    assert (bench.broker.status()["consumers"], bench.broker.status()["paused"]) == ({"q": True}, ["r"])


def test_publishing_has_a_connection_of_its_own(bench: Bench) -> None:
    """What is published waits for the connection, and goes over that which consumes nothing."""
    publication = bench.broker.publish("q", b"body")
    bench.start()
    bench.broker.publish("q", b"more")
    bodies = [value for value in bench.peers["publishing"].sent() if isinstance(value, frame.Body)]
    assert [body.fragment for body in bodies] == [b"more"], "the first was sent at once"
    assert not publication.withdraw()
    assert not bench.peers["consuming"].sent()


def test_counting(bench: Bench) -> None:
    """Queues are counted over the connection that consumes; without a connection there is nothing to tell."""
    assert result(Deferred.fromCoroutine(bench.broker.count_queues())) == [{}]
    bench.start()
    found = result(Deferred.fromCoroutine(bench.broker.count_queues()))
    bench.peers["consuming"].answer()
    assert found == [{"q": (3, 1)}]


def test_dead_lettering(bench: Bench) -> None:
    """Messages are dead-lettered over the connection that consumes; without one, and where that fails, it is told."""
    assert result(Deferred.fromCoroutine(bench.broker.dead_letter("q"))) == [None]
    bench.start()
    found = result(Deferred.fromCoroutine(bench.broker.dead_letter("q")))
    bench.peers["consuming"].answer(Queue_Declare=spec.Queue.DeclareOk("q", 0, 0))
    assert found == [0]
    found = result(Deferred.fromCoroutine(bench.broker.dead_letter("q")))
    bench.peers["consuming"].answer(Queue_Declare=spec.Channel.Close(404, "NOT_FOUND", 50, 10))
    assert found == [None]


def declared(bench: Bench) -> list[str]:
    """Answer the calls on the connection that consumes; the queues that are declared."""
    calls = bench.peers["consuming"].answer()
    return [call.queue for call in calls if call.NAME == "Queue.Declare"]


def test_regular_declarations_are_spread(bench: Bench) -> None:
    """All queues are declared again, now and then: of thousands a few at once, evenly over the time, so that nothing
    waits for all of them."""
    names = ["q", *(f"q{number}" for number in range(2 * CHECKED_AT_ONCE - 1))]
    bench.broker.declare(*map(Queue, names[1:]))
    bench.start()
    found = []
    bench.clock.pump([CHECK_INTERVAL / TURNS] * (TURNS - 1))
    for _ in range(2 * TURNS):
        assert not declared(bench)
        bench.clock.advance(CHECK_INTERVAL / TURNS)
        found.append(declared(bench))
    assert [len(each) for each in found] == [CHECKED_TOGETHER] * (2 * TURNS)
    assert [name for each in found for name in each] == names


def test_few_are_declared_together(bench: Bench) -> None:
    """Few queues are declared all together, once in each interval."""
    bench.start()
    found = []
    for _ in range(2 * TURNS):
        bench.clock.advance(CHECK_INTERVAL / TURNS)
        found.append(declared(bench))
    assert found == [*[[]] * (TURNS - 1), ["q"]] * 2


def test_a_new_queue_beside_the_regular_declaration(bench: Bench) -> None:
    """A queue that is new is declared soon also while thousands are declared again, as they are now and then."""
    bench.broker.declare(*(Queue(f"q{number}") for number in range(2 * CHECKED_AT_ONCE)))
    bench.start()
    bench.clock.pump([CHECK_INTERVAL / TURNS] * TURNS)
    found = result(Deferred.fromCoroutine(bench.broker.declare_now([Queue("new")])))
    assert declared(bench).index("new") <= CHECKED_TOGETHER
    assert found == [None]


@pytest.mark.parametrize("few", [True, False])
def test_queues_that_can_wait(bench: Bench, few: bool) -> None:
    """Consumers are live, and health is ok, before very many queues are declared that a message may need later; these
    follow over the connection that consumes, and one that is needed meanwhile is declared at once."""
    names = [f"q{number}.parked" for number in range(MANY if few else 3 * MANY)]
    queues = [Queue(name, bound=False, can_wait=True) for name in names]
    bench.broker.declare(*queues)
    begun = bench.start()
    assert bench.broker.status()["consumers"] == {"q": True}
    assert bench.broker.status()["publishing"]
    consuming = bench.peers["consuming"]
    at_start = {call.queue for call in begun if call.NAME == "Queue.Declare"}
    assert at_start == {"q", *(names if few else ())}
    counting = result(Deferred.fromCoroutine(bench.broker.count_queues()))
    consuming.answer()
    assert set(counting[0]) == at_start
    having = result(Deferred.fromCoroutine(bench.broker.have(queues[-1])))
    first = [call.queue for call in consuming.answer() if call.NAME == "Queue.Declare"]
    assert having == [None]
    assert first == ([] if few else [names[-1]])
    bench.clock.advance(QUIET)
    rest = [call.queue for call in consuming.answer() if call.NAME == "Queue.Declare"]
    assert rest == ([] if few else names[:-1])
    assert not bench.peers["publishing"].sent()


def test_a_queue_that_waits_and_is_refused(bench: Bench) -> None:
    """A queue that can't be declared is a fault also where it is declared after the consumers have begun."""
    bench.broker.declare(*(Queue(f"q{number}", bound=False, can_wait=True) for number in range(MANY + 1)))
    bench.start()
    assert "faults" not in bench.broker.status()
    bench.clock.advance(QUIET)
    bench.peers["consuming"].answer(Queue_Declare=spec.Channel.Close(403, "ACCESS_REFUSED", 50, 10))
    assert len(bench.broker.status()["faults"]) == MANY + 1


def test_a_fault_of_a_queue_that_is_not_needed_any_more(bench: Bench) -> None:
    """The state has the fault of a queue until it is not needed any more, also where there are very many."""
    bench.broker.declare(*(Queue(f"q{number}") for number in range(CHECKED_TOGETHER)))
    bench.start()
    bench.broker.declare(Queue("closed"))
    Deferred.fromCoroutine(bench.broker.declare_now([Queue("closed")]))
    refusal = spec.Channel.Close(403, "ACCESS_REFUSED", 50, 10)
    bench.peers["consuming"].answer(Queue_Declare=refusal)
    assert "closed" in str(bench.broker.status()["faults"])
    bench.broker.forget(Queue("closed"))
    for _ in range(TURNS):
        bench.clock.advance(CHECK_INTERVAL / TURNS)
        declared(bench)
    assert "faults" not in bench.broker.status()


def test_room_of_requests(bench: Bench) -> None:
    """Messages of requests have 32 MB while their outcome is not known: their answers, which wait beside them, have the
    content again, and all of it together is 64 MB."""
    backlog = bench.broker.backlog
    backlog.add(bytes(31 * 2**20))
    assert backlog.takes(bytes(2**19))
    assert not backlog.takes(bytes(2**20))


def test_stopping(bench: Bench) -> None:
    """A stop fails what waits, and closes both connections in order."""
    waiting = result(bench.broker.publish("q", b"body").confirmed)
    bench.start()
    bench.peers["publishing"].send(spec.Connection.Blocked("memory"))
    late = result(bench.broker.publish("q", b"body").confirmed)
    stopping = bench.broker.stopService()
    for peer in bench.peers.values():
        assert "Connection.Close" in [method.NAME for method in peer.answer()]
        peer.lose(ConnectionDone())
    assert stopping.called
    assert waiting[0].check(AmqpConnectionError)
    assert late[0].check(AmqpConnectionError)
    assert not bench.clock.getDelayedCalls()


def test_the_end_of_consuming(bench: Bench) -> None:
    """Waits of handlers are cancelled when consuming stops, and those that begin later are at once."""
    bench.start()
    first, second = Deferred[None](), Deferred[None]()
    found = [result(Deferred.fromCoroutine(bench.broker.rest(each))) for each in (first, second)]
    second.callback(None)
    assert found == [[], [None]]
    assert not bench.broker.stopping
    stopping = Deferred.fromCoroutine(bench.broker.stop_consuming(5))
    assert bench.broker.stopping
    assert found[0][0].check(CancelledError)
    late = result(Deferred.fromCoroutine(bench.broker.rest(Deferred())))
    assert late[0].check(CancelledError)
    bench.peers["consuming"].answer()
    assert stopping.called
    assert bench.broker.status()["consumers"] == {"q": False}
