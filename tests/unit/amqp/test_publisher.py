"""Publishing: waiting, withdrawing, confirms and returns, against a broker's side made with pika's frames."""

from __future__ import annotations

from typing import Any

import pytest
from pika import frame, spec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from junebug_turn.amqp.backlog import OVERHEAD, Backlog
from junebug_turn.amqp.publication import Publication
from junebug_turn.amqp.publisher import MAX_ABANDONED, MAX_ABANDONED_BYTES, MAX_WAITING, Publisher
from junebug_turn.amqp.topology import Topology
from junebug_turn.errors import AmqpConnectionError, MessageTooLarge, Unroutable
from tests.support.broker_peer import Peer


class Bench:
    """A publisher, and the connections that it would be given, one after the other."""

    def __init__(self, alone: bool = False) -> None:
        self.peer = Peer()
        self.publisher = Publisher(self.peer.clock, lambda: 0.5, Topology(), alone=alone)
        self.fates: dict[str, Any] = {}
        self.publications: dict[str, Publication] = {}
        self.backlog = Backlog()

    def connect(self) -> None:
        """Open a connection and have the publisher ready on it."""
        self.peer = peer = Peer()
        # private: a connection has a clock of its own, and a publisher has one connection after the other.
        self.publisher._reactor = peer.clock
        peer.connect()
        peer.sent()
        self.serve()

    def serve(self) -> None:
        peer = self.peer
        serving = Deferred.fromCoroutine(self.publisher.serve(peer.protocol))
        serving.addErrback(lambda failure: failure.trap(CancelledError))
        self.open()

    def open(self, declared: bool = False) -> None:
        """Answer until the channel is in confirm mode.

        :param declared: whether the exchanges were declared on this connection
        """
        peer = self.peer
        self.channel = peer.opened()
        if not declared:
            peer.send(spec.Channel.OpenOk(), self.channel)
            peer.send(spec.Exchange.DeclareOk(), self.channel)
            peer.send(spec.Exchange.UnbindOk(), self.channel)
            peer.send(spec.Exchange.DeclareOk(), self.channel)
            peer.send(spec.Channel.CloseOk(), self.channel)
            self.channel += 1
        peer.send(spec.Channel.OpenOk(), self.channel)
        assert [method.NAME for method in peer.methods()][-1] == "Confirm.Select"
        peer.send(spec.Confirm.SelectOk(), self.channel)

    def publish(self, *names: str, routing_key: str = "q") -> None:
        for name in names:
            self.publications[name] = self.publisher.publish(routing_key, name.encode(), backlog=self.backlog)
            done = self.publications[name].confirmed
            done.addCallbacks(
                lambda _, n=name: self.fates.update({n: "ok"}),
                lambda f, n=name: self.fates.update({n: f.type}),
            )

    def written(self) -> list[str]:
        """The bodies published since the last call."""
        return [part.fragment.decode() for part in self.peer.sent() if isinstance(part, frame.Body)]

    def ack(self, tag: int, multiple: bool = False) -> None:
        self.peer.send(spec.Basic.Ack(tag, multiple), self.channel)

    def come_back(self, name: str, routing_key: str = "q") -> None:
        method = spec.Basic.Return(312, "NO_ROUTE", "vumi", routing_key)
        self.peer.protocol.dataReceived(self.peer.content(method, name.encode(), self.channel, 100))


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.connect()
    return bench


def test_success_is_the_brokers_confirm(bench: Bench) -> None:
    """A publish is done when the broker confirms it, and not before: without confirms never."""
    bench.publish("a", "b", "c")
    assert bench.written() == ["a", "b", "c"]
    assert not bench.fates
    bench.ack(2)
    assert bench.fates == {"b": "ok"}
    bench.ack(3)
    bench.ack(1)
    assert bench.fates == {"a": "ok", "b": "ok", "c": "ok"}


def test_one_confirm_for_many(bench: Bench) -> None:
    """A confirm with the multiple flag is one for all up to its number."""
    names = [f"m{n}" for n in range(100)]
    bench.publish(*names)
    bench.ack(3)
    bench.ack(99, multiple=True)
    assert set(names) - set(bench.fates) == {"m99"}
    bench.ack(100, multiple=True)
    assert set(bench.fates.values()) == {"ok"}


def test_a_refused_message_fails(bench: Bench) -> None:
    """basic.nack from the broker is an AmqpConnectionError."""
    bench.publish("a")
    bench.peer.send(spec.Basic.Nack(1, False), bench.channel)
    assert bench.fates == {"a": AmqpConnectionError}


def test_an_unroutable_message_fails(bench: Bench) -> None:
    """A message that comes back fails at its confirm; those beside it do not."""
    bench.publish("a", "b")
    bench.publish("b2", routing_key="other")
    bench.come_back("b")
    bench.ack(3, multiple=True)
    assert bench.fates == {"a": "ok", "b": Unroutable, "b2": "ok"}


def test_equal_messages_come_back_one_by_one(bench: Bench) -> None:
    """Two messages of the same route and body, both returned, both fail."""
    publications = []
    for _ in range(2):
        bench.publish("a")
        publications.append(bench.publications["a"])
    bench.come_back("a")
    bench.come_back("a")
    assert [publication.returned for publication in publications] == ["312 NO_ROUTE"] * 2
    bench.ack(2, multiple=True)
    assert bench.fates == {"a": Unroutable}
    assert bench.backlog == Backlog()


def test_it_waits_for_the_broker() -> None:
    """While the broker is away messages wait, and go in their order when it is there."""
    bench = Bench()
    bench.publish("a", "b", "c")
    assert not bench.fates
    bench.connect()
    assert bench.written() == ["a", "b", "c"]


def test_at_most_a_thousand_wait() -> None:
    """One more than 1,000 waiting fails at once; one withdrawn makes room."""
    bench = Bench()
    bench.publish(*[f"m{n}" for n in range(MAX_WAITING)])
    assert MAX_WAITING == 1000
    assert not bench.fates
    bench.publish("late")
    assert bench.fates == {"late": AmqpConnectionError}
    bench.publications["m7"].confirmed.cancel()
    bench.publish("another")
    assert "another" not in bench.fates
    bench.connect()
    written = bench.written()
    assert len(written) == 1000
    assert written[-1] == "another"
    assert "m7" not in written


def test_a_waiting_message_can_be_withdrawn() -> None:
    """Cancelled while it waits, a message is never sent."""
    bench = Bench()
    bench.publish("a", "b")
    bench.publications["a"].confirmed.cancel()
    assert bench.fates == {"a": CancelledError}
    bench.connect()
    assert bench.written() == ["b"]


def test_withdrawing() -> None:
    """``withdraw`` takes back a message that waits, and says so; of one handed over it changes nothing."""
    bench = Bench()
    bench.publish("a", "b")
    assert bench.publications["a"].withdraw()
    assert bench.fates == {"a": CancelledError}
    assert bench.publications["a"].withdraw(), "it never will be sent"
    bench.connect()
    assert bench.written() == ["b"]
    assert not bench.publications["b"].withdraw()
    bench.ack(1)
    assert bench.fates["b"] == "ok"
    assert not bench.publications["b"].withdraw()


def test_withdrawing_what_was_lost(bench: Bench) -> None:
    """A message that was lost before its confirm may be in its queue: it can't be withdrawn."""
    bench.publish("a")
    bench.peer.lose(ConnectionLost())
    assert bench.fates == {"a": AmqpConnectionError}
    assert not bench.publications["a"].withdraw()


def test_a_message_handed_over_is_only_left(bench: Bench) -> None:
    """Cancelled when it was handed over, a message ends the wait and disturbs no other; nothing is kept."""
    bench.publish("a", "b")
    bench.publications["a"].confirmed.cancel()
    assert bench.fates == {"a": CancelledError}
    bench.ack(2, multiple=True)
    assert bench.fates == {"a": CancelledError, "b": "ok"}
    assert bench.backlog == Backlog()
    # private: a wrong count shows only a thousand messages later.
    assert not bench.publisher._abandoned


def test_a_late_outcome(bench: Bench) -> None:
    """What became of a message whose sender had left is known once: confirmed, refused, returned, or lost."""
    names = ("confirmed", "refused", "returned", "lost")
    bench.publish(*names)
    outcomes: dict[str, Any] = {}
    for name in names:
        publication = bench.publications[name]
        publication.confirmed.cancel()
        publication.late = lambda fault, name=name: outcomes.update({name: fault})  # type: ignore[misc]
    bench.ack(1)
    bench.peer.send(spec.Basic.Nack(2), bench.channel)
    bench.come_back("returned")
    bench.ack(3)
    bench.peer.lose(ConnectionLost())
    assert {name: type(fault) for name, fault in outcomes.items()} == {
        "confirmed": type(None),
        "refused": AmqpConnectionError,
        "returned": Unroutable,
        "lost": AmqpConnectionError,
    }
    # private: a wrong count shows only a thousand messages later.
    assert not bench.publisher._abandoned


def test_a_message_that_nobody_waits_for(bench: Bench) -> None:
    """Withdrawing what was handed over notes once that nobody waits; its confirm comes all the same."""
    bench.publish("a", "b")
    for _ in range(2):
        assert not bench.publications["a"].withdraw()
    # private: a wrong count shows only a thousand messages later.
    assert bench.publisher._abandoned == 1
    bench.publications["a"].confirmed.cancel()
    # private: a wrong count shows only a thousand messages later.
    assert bench.publisher._abandoned == 1
    assert not bench.publications["b"].withdraw()
    bench.ack(2, multiple=True)
    assert bench.fates == {"a": CancelledError, "b": "ok"}
    # private: a wrong count shows only a thousand messages later.
    assert not bench.publisher._abandoned


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_broker_that_confirms_nothing_is_left(bench: Bench, cancelled: bool) -> None:
    """More than 1,000 given up without confirm end the connection, so that nothing piles up."""
    for number in range(MAX_ABANDONED + 1):
        assert not bench.peer.protocol.closed
        bench.publish(f"m{number}")
        publication = bench.publications[f"m{number}"]
        publication.confirmed.cancel() if cancelled else publication.withdraw()
    assert bench.peer.protocol.closed
    assert bench.backlog == Backlog()


def test_large_messages_that_nobody_waits_for(bench: Bench) -> None:
    """32 MB of messages that were given up without confirm end the connection, however few they are."""
    large = "x" * (2 * 1024 * 1024)
    for number in range(MAX_ABANDONED_BYTES // (2 * 1024 * 1024)):
        assert not bench.peer.protocol.closed
        bench.publish(f"{number:02}{large}")
        bench.publications[f"{number:02}{large}"].confirmed.cancel()
    assert bench.peer.protocol.closed
    assert bench.backlog == Backlog()


@pytest.mark.parametrize("ready", [False, True])
def test_the_backlog_is_bounded(ready: bool) -> None:
    """What waits for the broker, and for its confirm, is bounded in number and bytes; one more fails at once, and each
    message whose outcome is known, or that was withdrawn, makes room for another."""
    bench = Bench()
    if ready:
        bench.connect()
    bench.backlog = backlog = Backlog(max_messages=5, max_bytes=5 * OVERHEAD + 10_000)
    bench.publish("a", "b", "c", "d", "e", "late")
    assert bench.fates == {"late": AmqpConnectionError}
    bench.publications["a"].confirmed.cancel()
    if not ready:
        bench.connect()
    else:
        bench.ack(1)
    bench.publish("f" * 9000)
    assert bench.fates.pop("f" * 9000, None) is None
    bench.publish("later")
    assert bench.fates["later"] is AmqpConnectionError
    bench.ack(6, multiple=True)
    assert backlog == Backlog(max_messages=5, max_bytes=5 * OVERHEAD + 10_000)
    bench.publish("g" * 14_000, "h" * 14_000)
    assert "h" * 14_000 in bench.fates
    assert "g" * 14_000 not in bench.fates


@pytest.mark.parametrize("how", ["refused", "returned", "channel", "connection", "stop", "header"])
def test_nothing_stays_in_the_backlog(bench: Bench, how: str) -> None:
    """Whatever becomes of a message, it counts for the backlog no longer."""
    if how == "stop":
        bench.peer.lose(ConnectionLost())
    headers = {"too": "x" * 200_000} if how == "header" else None
    publication = bench.publisher.publish("q", b"a", headers=headers, backlog=bench.backlog)
    publication.confirmed.addErrback(lambda failure: failure.trap(Exception))
    match how:
        case "refused":
            bench.peer.send(spec.Basic.Nack(1, False), bench.channel)
        case "returned":
            bench.come_back("a")
            bench.ack(1)
        case "channel":
            bench.peer.send(spec.Channel.Close(404, "NOT_FOUND - no exchange", 60, 40), bench.channel)
        case "connection":
            bench.peer.lose(ConnectionLost())
        case "stop":
            bench.publisher.stop()
    assert publication.confirmed.called
    assert bench.backlog == Backlog()


def test_a_lost_connection_fails_what_is_unconfirmed(bench: Bench) -> None:
    """What was handed over and not confirmed fails, and is never sent again; what comes after waits."""
    bench.publish("a")
    bench.written()
    bench.peer.lose(ConnectionLost())
    assert bench.fates == {"a": AmqpConnectionError}
    bench.publish("b")
    bench.connect()
    assert bench.written() == ["b"]
    bench.ack(1)
    assert bench.fates["b"] == "ok"


def test_a_channel_that_dies_alone(bench: Bench) -> None:
    """A channel closed by the broker fails what is unconfirmed and is opened again after a pause."""
    bench.publish("a")
    bench.peer.send(spec.Channel.Close(404, "NOT_FOUND - no exchange", 60, 40), bench.channel)
    assert bench.fates == {"a": AmqpConnectionError}
    bench.publish("b")
    bench.peer.sent()
    bench.peer.clock.advance(0.2)
    bench.open()
    assert bench.written() == ["b"]
    bench.ack(1)
    assert bench.fates["b"] == "ok"


def too_large(size: int, limit: int) -> Any:
    text = f"PRECONDITION_FAILED - message size {size} is larger than configured max size {limit}"
    return spec.Channel.Close(406, text, 60, 40)


def test_one_message_that_is_too_large(bench: Bench) -> None:
    """The message that closed the channel fails, and what was written after it, which the broker has ignored, is sent
    again; of what was written before it nobody knows."""
    bench.publish("a", "x" * 30, "b", "y" * 40, "c", "left")
    bench.publications["left"].confirmed.cancel()
    bench.written()
    bench.peer.send(too_large(30, 20), bench.channel)
    assert bench.fates == {"a": AmqpConnectionError, "x" * 30: MessageTooLarge, "left": CancelledError}
    bench.publish("d")
    bench.peer.sent()
    bench.peer.clock.advance(0.2)
    bench.open(declared=True)
    assert bench.written() == ["b", "c", "d"]
    assert bench.fates["y" * 40] is MessageTooLarge, "the limit is known now"
    bench.ack(3, multiple=True)
    assert [bench.fates[name] for name in "bcd"] == ["ok"] * 3
    bench.publish("z" * 21, "e" * 20)
    assert bench.written() == ["e" * 20]
    assert bench.fates["z" * 21] is MessageTooLarge


def test_what_is_sent_again_can_be_withdrawn(bench: Bench) -> None:
    """A message that the broker has ignored waits again, and can be taken back."""
    bench.publish("x" * 30, "b")
    bench.peer.send(too_large(30, 20), bench.channel)
    assert bench.publications["b"].withdraw()
    bench.peer.sent()
    bench.peer.clock.advance(0.2)
    bench.open(declared=True)
    assert not bench.written()


def test_a_limit_is_that_of_a_connection(bench: Bench) -> None:
    """After a new connection the broker may take what it refused before."""
    bench.publish("x" * 30)
    bench.peer.send(too_large(30, 20), bench.channel)
    bench.peer.lose(ConnectionLost())
    bench.connect()
    bench.publish("y" * 30)
    assert bench.written() == ["y" * 30]


def test_an_exchange_that_is_refused(bench: Bench) -> None:
    """Those that the user may not publish fail each, and say so."""
    bench.publish("a", "b")
    text = "ACCESS_REFUSED - access to exchange 'vumi' in vhost '/' refused for user 'guest'"
    said: list[str] = []
    late = bench.publisher.publish("q", b"c")
    late.confirmed.addErrback(lambda failure: said.append(str(failure.value)))
    bench.peer.send(spec.Channel.Close(403, text, 60, 40), bench.channel)
    assert bench.fates == {"a": AmqpConnectionError, "b": AmqpConnectionError}
    assert said == ["the broker's user may not write to the exchange vumi: give it the permission"]


def test_one_at_a_time() -> None:
    """A channel for messages of unproven size has one at a time, so that none is lost sight of for another's fault."""
    bench = Bench(alone=True)
    bench.connect()
    bench.publish("a", "x" * 30, "b")
    assert bench.written() == ["a"]
    bench.ack(1)
    assert bench.written() == ["x" * 30]
    bench.peer.send(too_large(30, 20), bench.channel)
    assert bench.fates == {"a": "ok", "x" * 30: MessageTooLarge}
    bench.peer.sent()
    bench.peer.clock.advance(0.2)
    bench.open(declared=True)
    assert bench.written() == ["b"]
    bench.ack(1)
    assert bench.fates["b"] == "ok"


def test_a_blocked_publisher_waits(bench: Bench) -> None:
    """While the broker blocks us messages wait; afterwards they go in their order."""
    bench.peer.send(spec.Connection.Blocked("memory"))
    bench.publish("a", "b")
    assert not bench.written()
    bench.peer.send(spec.Connection.Unblocked())
    assert bench.written() == ["a", "b"]


def test_flow_stops_and_resumes(bench: Bench) -> None:
    """channel.flow holds messages back."""
    bench.peer.send(spec.Channel.Flow(False), bench.channel)
    bench.peer.sent()
    bench.publish("a")
    assert not bench.written()
    bench.peer.send(spec.Channel.Flow(True), bench.channel)
    assert bench.written() == ["a"]


def test_a_full_write_buffer_holds_messages_back(bench: Bench) -> None:
    """While the transport's buffer is full messages wait, and nothing overtakes them."""
    gate = bench.peer.transport.producer
    gate.pauseProducing()
    bench.publish("a", "b")
    assert not bench.written()
    gate.resumeProducing()
    bench.publish("c")
    assert bench.written() == ["a", "b", "c"]


def test_a_buffer_that_fills_while_flushing() -> None:
    """A buffer that fills in the middle of what waits stops there."""
    bench = Bench()
    bench.publish("a", "b")
    bench.connect()
    gate, write = bench.peer.transport.producer, bench.peer.transport.write
    gate.pauseProducing()
    bench.publish("c", "d")
    bench.written()

    def fill(data: bytes) -> None:
        write(data)
        gate.pauseProducing()

    bench.peer.transport.write = fill
    gate.resumeProducing()
    assert bench.written() == ["c"]
    gate.resumeProducing()
    assert bench.written() == ["d"]


@pytest.mark.parametrize("arguments", [{"routing_key": "ü" * 128}, {"headers": {"n": object()}}])
def test_what_has_no_form_fails(bench: Bench, arguments: dict[str, Any]) -> None:
    """A name or header that AMQP can't carry fails that message alone, with ValueError."""
    arguments = {"routing_key": "q", "headers": None} | arguments
    faults: list[Any] = []
    publication = bench.publisher.publish(arguments["routing_key"], b"x", headers=arguments["headers"])
    publication.confirmed.addErrback(lambda failure: faults.append(failure.type))
    assert faults == [ValueError]


def test_headers_over_a_frame_fail_alone(bench: Bench) -> None:
    """Headers that don't fit a frame fail their message; the numbers of the others stay right."""
    faults: list[Any] = []
    publication = bench.publisher.publish("q", b"x", headers={"n": "x" * 140000})
    publication.confirmed.addErrback(lambda failure: faults.append(failure.type))
    assert publication.withdraw(), "nothing was handed over"
    assert faults == [ValueError]
    bench.publish("a")
    bench.ack(1)
    assert bench.fates == {"a": "ok"}


def test_stopping_fails_what_waits() -> None:
    """When the service stops, what waits and what comes later fail."""
    bench = Bench()
    bench.publish("a")
    bench.publisher.stop()
    bench.publish("b")
    assert bench.fates == {"a": AmqpConnectionError, "b": AmqpConnectionError}
