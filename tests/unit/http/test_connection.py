"""The bounds of a request's size and time; in memory, with a clock of the test's own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.web import http_headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from junebug_turn.http.connection import HALF_CLOSED, LINGER
from junebug_turn.http.mounts import Mount
from junebug_turn.http.routing import Router
from junebug_turn.http.server import ApiSite
from junebug_turn.telemetry.metrics import Metrics
from tests.support.http_harness import Client, make_site

HEAD = b"POST /top HTTP/1.1\r\nHost: h\r\n"


class Length(Resource):
    """Answers with the length of the body."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        body = b"%d" % len(request.content.read())
        request.setHeader(b"content-length", b"%d" % len(body))
        return body


@pytest.fixture
def clock() -> Clock:
    return Clock()


def site(clock: Any, *, metrics: Metrics | None = None, **limits: Any) -> ApiSite:
    mounts = {
        "/top": Mount(Length(), "top"),
        "/own": Mount(Length(), "own", lambda answer: (answer.status, {"own": answer.type})),
    }
    return make_site(mounts, clock, metrics=metrics, **limits)


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
    client.send(b"\r\nHost: h\r\nContent-Length: 2\r\n\r\n")
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

    client = Client(make_site({"/top": Mount(Never())}, clock))
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


def test_next_request_while_one_is_handled(clock: Clock) -> None:
    """A pipelined request that is handled for long has no deadline, also when more input comes meanwhile."""
    handled: list[Any] = []

    class Later(Resource):
        isLeaf = True

        def render(self, request: Any) -> int:
            handled.append(request)
            return NOT_DONE_YET

    client = Client(make_site({"/top": Mount(Later())}, clock))
    client.send((HEAD + b"Content-Length: 0\r\n\r\n") * 2)
    handled[0].finish()
    clock.advance(0)
    assert len(handled) == 2
    client.send(HEAD)
    clock.advance(10_000)
    assert not client.ended
    handled[1].finish()
    assert client.received.count(b"HTTP/1.1 200 OK") == 2
    assert b"408" not in client.received


def turn(clock: Any) -> None:
    """One turn of the reactor: ``Clock.advance(0)`` is as many as there is work for."""
    due = [call for call in clock.calls if call.getTime() <= clock.seconds()]
    clock.calls = [call for call in clock.calls if call not in due]
    for call in due:
        call.called = 1
        call.func(*call.args, **call.kw)


def test_pipelined_requests(clock: Clock) -> None:
    """Requests that come at once are all answered, one in each turn of the reactor."""
    client = Client(site(clock))
    client.send((HEAD + b"Content-Length: 2\r\n\r\nxx") * 3)
    for answered in (1, 2, 3, 3):
        assert client.received.count(b"HTTP/1.1 200 OK") == answered
        turn(clock)
    client.send(HEAD + b"Content-Length: 2\r\n\r\nxx")
    assert client.received.count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.parametrize("length", [0, 2])
def test_pipelined_request_in_pieces(clock: Clock, length: int) -> None:
    """What comes while a pipelined request waits for its turn follows it, in order."""
    client = Client(site(clock))
    request = HEAD + b"Content-Length: %d\r\n\r\n" % length + b"xx"[:length]
    client.send(request + request[:20])
    client.send(request[20:40])
    turn(clock)
    assert client.received.count(b"HTTP/1.1 200 OK") == 1
    client.send(request[40:] + request)
    clock.advance(0)
    assert client.received.count(b"HTTP/1.1 200 OK") == 3
    assert not client.ended


def test_unread_answers(clock: Clock) -> None:
    """While a client leaves our answers unread nothing more of it is read or answered."""
    client = Client(site(clock, header_timeout=20, idle_timeout=60))
    client.send(HEAD + b"Content-Length: 0\r\n\r\n" + HEAD)
    turn(clock)
    client.channel.pauseProducing()
    client.send(b"Content-Length: 0\r\n\r\n" + (HEAD + b"Content-Length: 0\r\n\r\n") * 2)
    for _ in range(9):
        clock.advance(1)
    assert client.received.count(b"HTTP/1.1 200 OK") == 2
    assert client.transport.producerState == "paused"
    client.channel.resumeProducing()
    assert client.transport.producerState == "producing"
    for answered in (2, 3, 4, 4):
        assert client.received.count(b"HTTP/1.1 200 OK") == answered
        turn(clock)


def test_answers_that_stay_unread(clock: Clock) -> None:
    """A client that never reads our answers is cut off after idle_timeout."""
    client = Client(site(clock, header_timeout=20, idle_timeout=60))
    client.channel.pauseProducing()
    client.send((HEAD + b"Content-Length: 0\r\n\r\n") * 2)
    clock.pump([1] * (60 + LINGER))
    assert client.received.count(b"HTTP/1.1 200 OK") == 1
    assert client.transport.disconnected


def test_lost_before_its_turn(clock: Clock) -> None:
    """A request that waits for its turn is gone with its connection."""
    made = site(clock)
    calls = len(clock.getDelayedCalls())
    client = Client(made)
    client.send((HEAD + b"Content-Length: 0\r\n\r\n") * 2)
    client.lose()
    clock.advance(0)
    assert client.received.count(b"HTTP/1.1 200 OK") == 1
    assert len(clock.getDelayedCalls()) == calls


def test_half_closed_before_its_turn(clock: Clock) -> None:
    """Pipelined requests are answered though the client has half-closed before their turn."""
    client = Client(site(clock))
    client.send((HEAD + b"Content-Length: 0\r\n\r\n") * 3)
    client.channel.readConnectionLost()
    for answered in (1, 2, 3):
        assert (client.received.count(b"HTTP/1.1 200 OK"), client.ended) == (answered, answered == 3)
        turn(clock)
    assert client.ended


def test_nothing_after_the_last_request(clock: Clock) -> None:
    """What a client sends after a request that closes the connection is thrown away."""
    client = Client(site(clock))
    client.send(HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n" + HEAD + b"nonsense\r\n")
    clock.advance(0)
    assert client.received.count(b"HTTP/1.1") == 1


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
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Host: h\r\n\r\n",
        b"POST /top HTTP/1.1\r\n\r\n",
        b"POST /top HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"POST /top HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n",
        b"POST top HTTP/1.1\r\n",
        b"POST *top HTTP/1.1\r\n",
        b"POST ftp://h/top HTTP/1.1\r\n",
        b"CONNECT h:80 HTTP/1.1\r\n",
        b"POST http:///top HTTP/1.1\r\n",
        b"POST /t\xc3\xb6p HTTP/1.1\r\n",
        b"POST /top#x HTTP/1.1\r\n",
        b"POST  /top HTTP/1.1\r\n",
        b"POST\t/top HTTP/1.1\r\n",
        b"POST /top HTTP/2.0\r\n",
        b"POST /top http/1.1\r\n",
        b"POST /top\r\n",
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


def test_http_1_0(clock: Clock) -> None:
    """A request of HTTP/1.0 needs no Host."""
    client = Client(site(clock))
    client.send(b"POST /top HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
    assert client.received.startswith(b"HTTP/1.0 200 OK\r\n")


@pytest.mark.parametrize(("error", "lines"), [(ValueError("9" * 99), 0), (LookupError("bug"), 1)])
def test_whatever_the_parser_raises(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, error: Exception, lines: int
) -> None:
    """Whatever the parser raises is a 400; an exception that is not about the input is logged as a warning."""
    client = Client(site(clock))

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(client.channel, "_maybeChooseTransferDecoder", fail)
    with capturedLogs() as events:
        client.send(HEAD + b"X: y\r\n\r\n")
    assert client.refusal() == (400, "BadRequest")
    shown = [event for event in events if event["log_level"] > LogLevel.info]
    assert [event["log_level"] for event in shown] == [LogLevel.warn] * lines


def test_long_header_names(clock: Clock) -> None:
    """A header's name has a bound: Twisted keeps the names of headers that it has seen, 10,000 of them."""
    for name, taken in ((b"x" * 256, True), (b"x" * 257, False), (b"x" * 9000, False)):
        client = Client(site(clock))
        client.send(HEAD + name + b": y\r\nContent-Length: 0\r\n\r\n")
        if taken:
            assert client.received.startswith(b"HTTP/1.1 200 OK")
        else:
            assert client.refusal() == (431, "HeadersTooLarge")
            # private: Twisted's cache shows in the memory only.
            assert name not in http_headers._nameEncoder._canonicalHeaderCache
    client = Client(site(clock))
    client.send(HEAD + b"X: y\r\n " + b"y" * 300 + b"\r\nContent-Length: 0\r\n\r\n")
    assert client.received.startswith(b"HTTP/1.1 200 OK")


class Held:
    """An API whose answers wait for ``held``."""

    router = Router()

    def __init__(self) -> None:
        self.held: list[Deferred[bytes]] = []

    @router.route("/", methods=["POST"])
    def post(self, request: Any) -> Deferred[bytes]:
        self.held.append(Deferred())
        return self.held[-1]


def test_half_closed(clock: Clock) -> None:
    """A client that half-closes after its requests gets their answers; then the connection ends."""
    api = Held()
    client = Client(make_site({"/top": Mount(api.router.resource())}, clock))
    client.send((b"POST /top/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n") * 2)
    for _ in range(2):  # Twisted says it again when it reads again
        client.channel.readConnectionLost()
    for number in range(2):
        clock.advance(HALF_CLOSED - 1)
        assert not client.ended
        api.held[number].callback(b"%d" % number)
        clock.advance(0)
        assert client.received.count(b"HTTP/1.1 200 OK") == number + 1
    assert client.ended
    assert clock.seconds() > HALF_CLOSED


@pytest.mark.parametrize("data", [b"", HEAD[:9], HEAD + b"Content-Length: 0\r\n\r\n", b"\r\n"])
def test_half_closed_between_requests(clock: Clock, data: bytes) -> None:
    """A connection that is half closed while no request is under way ends, without a word more."""
    client = Client(site(clock))
    client.send(data)
    received = client.received
    client.channel.readConnectionLost()
    assert client.ended
    assert client.received == received
    clock.advance(LINGER)
    assert client.transport.disconnected


@pytest.mark.parametrize(
    "data", [HEAD, HEAD + b"Content-Length: 9\r\n\r\nx", HEAD + b"Content-Length: 0\r\n\r\n" + HEAD]
)
def test_half_closed_within_a_request(clock: Clock, data: bytes) -> None:
    """A request that can't become complete any more is refused."""
    client = Client(site(clock))
    client.send(data)
    client.transport.clear()
    client.channel.readConnectionLost()
    clock.advance(0)
    assert client.refusal() == (400, "BadRequest")


def test_half_closed_and_slow(clock: Clock) -> None:
    """A half-closed client may have gone: after 3 s what can be withdrawn is, and the answer is a 503."""
    api = Held()
    client = Client(make_site({"/top": Mount(api.router.resource())}, clock))
    client.send(b"POST /top/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    clock.advance(1000)
    client.channel.readConnectionLost()
    clock.advance(HALF_CLOSED - 0.1)
    assert not api.held[0].called
    clock.advance(0.2)
    assert api.held[0].called
    response = client.response()
    assert (response.status, response.headers["retry-after"]) == (503, "5")
    assert response.body["result"]["errors"][0]["type"] == "NotAnsweredInTime"
    assert client.ended


def test_half_closed_without_end(clock: Clock) -> None:
    """Where the work on an answer can't be ended, the connection is cut."""

    class Never(Resource):
        isLeaf = True

        def render(self, request: Any) -> int:
            return NOT_DONE_YET

    client = Client(make_site({"/top": Mount(Never())}, clock))
    client.send(HEAD + b"Content-Length: 0\r\n\r\n")
    client.channel.readConnectionLost()
    clock.advance(HALF_CLOSED)
    assert client.transport.disconnected


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
    for path in (b"/own", b"/own/messages?q=/top", b"http://h/own/x"):
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
