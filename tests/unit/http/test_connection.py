"""What a client may send and how long it may take; in memory, with a clock of the test's own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from junebug_turn.http.connection_limits import MAX_LINGERING, Connections, client_of
from junebug_turn.http.options import LimitOptions
from junebug_turn.http.server import ApiSite, Mount, Root
from junebug_turn.telemetry.metrics import Metrics

HEAD = b"POST /top HTTP/1.1\r\nHost: h\r\n"


class Length(Resource):
    """Answers with the length of the body."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        body = b"%d" % len(request.content.read())
        request.setHeader(b"content-length", b"%d" % len(body))
        return body


class Client:
    """A connection to a site in memory."""

    def __init__(self, site: ApiSite, host: str = "192.0.2.1") -> None:
        peer = IPv6Address("TCP", host, 1) if ":" in host else IPv4Address("TCP", host, 1)
        self.transport = StringTransport(peerAddress=peer)
        self.channel: Any = site.buildProtocol(peer)
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    def trickle(self, clock: Clock, data: bytes, seconds: float) -> None:
        """Send ``data`` byte by byte, ``seconds`` apart, while the server takes it."""
        for number in range(len(data)):
            if self.ended:
                return
            self.send(data[number : number + 1])
            clock.advance(seconds)

    @property
    def ended(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.disconnected)

    @property
    def received(self) -> bytes:
        return bytes(self.transport.value())

    def refusal(self) -> tuple[int, str]:
        """Status and type of the answer, which must be JSON."""
        head, _, body = self.received.partition(b"\r\n\r\n")
        assert b"Content-Type: application/json" in head
        assert b"Connection: close" in head
        assert self.ended
        answer = json.loads(body)
        assert answer["status"] == int(head.split(b" ")[1])
        return answer["status"], answer["result"]["errors"][0]["type"]

    def lose(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def site(clock: Any, *, metrics: Metrics | None = None, **limits: Any) -> ApiSite:
    mounts = {
        "/top": Mount(Length(), "top"),
        "/own": Mount(Length(), "own", lambda answer: {"own": answer.type}),
    }
    made = ApiSite(Root(mounts), clock, limits=LimitOptions(**limits), metrics=metrics)
    made.startFactory()
    return made


def test_slow_headers(clock: Clock) -> None:
    """Headers that are not complete after header_timeout are refused with 408, however steadily they trickle."""
    client = Client(site(clock, header_timeout=20))
    client.trickle(clock, HEAD, 1)
    assert clock.seconds() == 20
    assert client.refusal() == (408, "RequestTimeout")


def test_slow_body(clock: Clock) -> None:
    """A body that is not complete after body_timeout is refused with 408, however steadily it trickles."""
    client = Client(site(clock, body_timeout=60))
    client.send(HEAD + b"Content-Length: 1000\r\n\r\n")
    client.trickle(clock, b"x" * 1000, 7)
    assert clock.seconds() == 63
    assert client.refusal() == (408, "RequestTimeout")


def test_slow_chunked_body(clock: Clock) -> None:
    """A body of trickling chunks has no more time."""
    client = Client(site(clock, body_timeout=60))
    client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    client.trickle(clock, b"1\r\nx\r\n" * 100, 1)
    assert clock.seconds() == 60
    assert client.refusal() == (408, "RequestTimeout")


def test_body_has_its_own_time(clock: Clock) -> None:
    """The body's time begins with the end of the headers, and what is in time is answered."""
    client = Client(site(clock, header_timeout=20, body_timeout=60))
    client.trickle(clock, b"POST /top HTTP/1.1", 1)
    client.send(b"\r\nContent-Length: 2\r\n\r\n")
    clock.advance(59)
    client.send(b"xx")
    assert client.received.startswith(b"HTTP/1.1 200 OK")
    assert client.received.endswith(b"\r\n\r\n2")


def test_silent_connection(clock: Clock) -> None:
    """A connection that never asks anything is closed after header_timeout, without a word."""
    client = Client(site(clock, header_timeout=20))
    clock.advance(19.9)
    assert not client.ended
    clock.advance(0.2)
    assert client.ended
    assert client.received == b""
    # A peer that doesn't close its half is cut.
    clock.advance(5)
    assert client.transport.disconnected


def test_kept_alive(clock: Clock) -> None:
    """After an answer a connection is kept for idle_timeout; the next request then has header_timeout again."""
    client = Client(site(clock, header_timeout=20, idle_timeout=60))
    client.send(HEAD + b"Content-Length: 0\r\n\r\n")
    clock.advance(59)
    client.send(HEAD)
    clock.advance(19)
    assert not client.ended
    client.send(b"Content-Length: 1\r\n\r\nx")
    assert client.received.endswith(b"\r\n\r\n1")
    clock.advance(60)
    assert client.ended
    assert client.received.endswith(b"\r\n\r\n1")


def test_our_own_time_is_not_the_client_s(clock: Clock) -> None:
    """While a request is handled nothing is asked of the client."""

    class Never(Resource):
        isLeaf = True

        def render(self, request: Any) -> int:
            return 1

    made = ApiSite(Root({"/top": Mount(Never())}), clock)  # type: ignore[arg-type]
    client = Client(made)
    client.send(HEAD + b"Content-Length: 0\r\n\r\n")
    clock.advance(10_000)
    assert not client.ended


def test_one_timer(clock: Clock) -> None:
    """However many requests a connection brings, it has one timer, which goes with it."""
    made = site(clock, header_timeout=20, idle_timeout=60)
    own = len(clock.getDelayedCalls())  # of the site
    client = Client(made)
    (timer,) = clock.getDelayedCalls()[own:]
    for _ in range(3):
        client.send(HEAD + b"Content-Length: 0\r\n\r\n")
        clock.advance(1)
        assert timer in clock.getDelayedCalls()
        assert len(clock.getDelayedCalls()) == own + 1
    client.channel.connectionLost(Failure(ConnectionDone()))
    assert len(clock.getDelayedCalls()) == own


def test_times_that_grow_shorter(clock: Clock) -> None:
    """A deadline is kept though the one before it was further away."""
    client = Client(site(clock, header_timeout=7, body_timeout=50, idle_timeout=60))
    for _ in range(2):
        client.send(HEAD + b"Content-Length: 1\r\n\r\n")
        clock.advance(49)
        client.send(b"x")
        clock.advance(58)
    assert not client.ended
    client.send(HEAD)
    for _ in range(6):
        clock.advance(1)
    assert b"408" not in client.received
    clock.advance(1)
    assert b"408" in client.received


def test_pipelined_requests(clock: Clock) -> None:
    """Requests that come at once are all answered."""
    client = Client(site(clock))
    client.send((HEAD + b"Content-Length: 2\r\n\r\nxx") * 3)
    assert client.received.count(b"HTTP/1.1 200 OK") == 3


def test_too_many_headers(clock: Clock) -> None:
    """More than max_headers headers are refused with 431 while they arrive."""
    client = Client(site(clock, max_headers=10))
    client.send(HEAD + b"X: y\r\n" * 11)
    assert client.refusal() == (431, "HeadersTooLarge")


def test_too_large_headers(clock: Clock) -> None:
    """Headers over max_header_size are refused with 431: in many lines, in one, in one without end, continued."""
    for data in (
        HEAD + b"X: %s\r\n" % (b"y" * 90) * 11,
        HEAD + b"X: %s\r\n" % (b"y" * 1100),
        HEAD + b"y" * 1100,
        b"POST /" + b"y" * 1100,
        HEAD + b"X: y\r\n" + b" continued\r\n" * 100,
    ):
        client = Client(site(clock, max_header_size=1000))
        client.send(data)
        assert client.refusal() == (431, "HeadersTooLarge"), data[:60]


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1, 2\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        HEAD + b"X: a\x00b\r\n\r\n",
        HEAD + b"X: a\nContent-Length: 3\r\n\r\n",
        HEAD + b"X : a\r\n\r\n",
    ],
)
def test_what_is_no_http(clock: Clock, data: bytes) -> None:
    """What can't be read as HTTP is a 400 in JSON, once; what follows is thrown away."""
    client = Client(site(clock))
    client.send(data)
    assert client.refusal() == (400, "BadRequest")
    answer = client.received
    client.send(HEAD + b"Content-Length: 0\r\n\r\n")
    assert client.received == answer


def refuse_early(clock: Clock, site: ApiSite, path: bytes) -> list[Client]:
    """Clients that send too large a body, none in time, and too large headers to ``path``."""
    head = b"POST %s HTTP/1.1\r\nHost: h\r\n" % path
    clients = [Client(site), Client(site), Client(site), Client(site)]
    clients[0].send(head + b"Content-Length: 9\r\n\r\n")
    clients[1].send(head + b"Transfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n")
    clients[2].send(head + b"X: %s\r\n" % (b"y" * 1000))
    clients[3].send(head)
    clock.advance(60)
    return clients


def test_a_mount_s_own_form(clock: Clock) -> None:
    """What is refused before its application is asked is told in that application's form, by its path."""
    for path in (b"/own", b"/own/messages?q=/top", b"/o%77n/x"):
        made = site(clock, max_body_size=8, max_header_size=500)
        bodies = [client.received.partition(b"\r\n\r\n")[2] for client in refuse_early(clock, made, path)]
        kinds = ["BodyTooLarge", "BodyTooLarge", "HeadersTooLarge", "RequestTimeout"]
        assert [json.loads(body) for body in bodies] == [{"own": kind} for kind in kinds]
        made.drain()
        late = Client(made)
        late.send(b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n" % path)
        assert json.loads(late.received.partition(b"\r\n\r\n")[2]) == {"own": "ShuttingDown"}
    for client in refuse_early(clock, site(clock, max_body_size=8, max_header_size=500), b"/owner"):
        client.refusal()


def test_refusals_are_counted(clock: Clock) -> None:
    """Requests that are refused while they arrive are counted, under the application of their path."""
    metrics = Metrics(applications={"top": "junebug", "own": "turn"})
    made = site(clock, metrics=metrics, max_body_size=8, max_header_size=500, max_connections_per_client=100)
    refuse_early(clock, made, b"/own")
    refuse_early(clock, made, b"/elsewhere")

    def count(status: str, connector: str) -> float | None:
        labels = {"application": "turn" if connector else "", "connector": connector, "status": status}
        return metrics.registry.get_sample_value("junebug_turn_http_requests_total", labels)

    for connector in ("own", ""):
        assert [count(status, connector) for status in ("413", "408", "431")] == [2, 1, 1]


def test_connections_in_all(clock: Clock) -> None:
    """A connection over max_connections gets a 503 with Retry-After at once; one that ends makes room."""
    made = site(clock, max_connections=2)
    first, second, third = (Client(made, f"192.0.2.{n}") for n in range(3))
    assert not first.ended
    assert not second.ended
    assert third.refusal() == (503, "TooManyConnections")
    assert b"Retry-After: 5" in third.received
    third.lose()
    first.lose()
    assert not Client(made, "192.0.2.9").ended
    assert made.connections.open == 2


def test_connections_of_one_client(clock: Clock) -> None:
    """One client has max_connections_per_client; for IPv6 its /64 counts, and mapped addresses are IPv4 ones."""
    made = site(clock, max_connections_per_client=1)
    assert not Client(made, "192.0.2.1").ended
    assert Client(made, "192.0.2.1").ended
    assert Client(made, "::ffff:192.0.2.1").ended
    assert not Client(made, "192.0.2.2").ended
    assert not Client(made, "2001:db8::1").ended
    assert Client(made, "2001:db8::ffff:1").ended
    assert not Client(made, "2001:db8:0:1::1").ended


def test_clients_behind_a_socket_file(clock: Clock) -> None:
    """Connections to a socket file have no address and only count in all."""
    assert client_of(UNIXAddress(None)) is None
    connections = Connections(clock, 2, 1)  # type: ignore[arg-type]
    connections.leave(connections.enter(UNIXAddress(None)))
    assert connections.enter(UNIXAddress(None)) is None
    assert connections.enter(UNIXAddress(None)) is None
    assert connections.open == 2


def test_refused_connections_don_t_pile_up(clock: Clock) -> None:
    """Only so many refused connections may wait to be read; further ones are cut without an answer."""
    made = site(clock, max_connections=1)
    clients = [Client(made, f"192.0.2.{n}") for n in range(MAX_LINGERING + 2)]
    assert clients[MAX_LINGERING].received
    assert clients[MAX_LINGERING + 1].received == b""
    assert clients[MAX_LINGERING + 1].transport.disconnected
    for client in clients:
        client.lose()
    assert (made.connections.open, made.connections.lingering) == (0, 0)


def test_refused_connections_are_logged_once(clock: Clock) -> None:
    """Refused connections are told once a minute, with their number."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        made = site(clock, max_connections=1)
        for _ in range(11):
            Client(made)
        clock.advance(60)
        Client(made)
    finally:
        globalLogPublisher.removeObserver(events.append)
    lines = [event for event in events if event.get("option") == "max_connections"]
    assert [event["count"] for event in lines] == [1, 10]


def test_no_http2(clock: Clock) -> None:
    """Over TLS only HTTP/1.1 can be negotiated."""
    assert site(clock).acceptableProtocols() == [b"http/1.1"]
